from __future__ import annotations

import pytest
import torch

from trainkit import TrainModule
from trainkit.errors import ModuleError, OptimizerError
from trainkit.loops.run import FitRun, Run
from trainkit.precision.base import Precision
from trainkit.testing import TinyData, TinyModule, quiet_trainer
from trainkit.types import Phase


@pytest.mark.parametrize("stage", ["validate", "test", "predict"])
@pytest.mark.parametrize("inference_mode", [True, False])
def test_a_run_of_an_evaluation_has_the_one_step_it_needs(stage, inference_mode):
    trainer, module = quiet_trainer(inference_mode=inference_mode), TinyModule()
    getattr(trainer, stage)(module, TinyData(1))
    run = trainer.run
    assert type(run) is Run
    assert list(run.evaluation_steps) == [Phase(stage)]
    assert run.inference_mode is inference_mode
    assert (run.module, run.strategy, run.precision, run.metrics) == (
        module,
        trainer.strategy,
        trainer.precision,
        trainer.metrics,
    )


@pytest.mark.parametrize("val", [None, TinyData(1)])
def test_a_fit_has_a_validation_step_where_it_validates(val):
    trainer = quiet_trainer(inference_mode=True)
    trainer.fit(TinyModule(), TinyData(1), val)
    run = trainer.fit_run
    assert type(run) is FitRun
    assert list(run.evaluation_steps) == ([] if val is None else [Phase.VALIDATE])
    assert not run.inference_mode, "tensors of inference mode cannot be trained with"
    assert run.limits.validate is (val is not None)
    assert not run.is_resumed


def test_what_is_asked_for_is_in_the_run():
    trainer = quiet_trainer(max_epochs=2, max_steps=3, accumulate_grad_batches={0: 1, 1: 2})
    trainer.fit(TinyModule(), TinyData(2))
    run = trainer.fit_run
    assert (run.limits.max_epochs, run.limits.max_steps) == (2, 3)
    assert run.accumulation.schedule == {0: 1, 1: 2}
    assert not run.splits_batches
    assert run.compile_step is None
    trainer = quiet_trainer(accumulate_grad_batches="auto")
    trainer.fit(TinyModule(), TinyData(2))
    assert trainer.fit_run.splits_batches


def test_everything_is_asked_in_the_promised_order():
    events = []

    class Module(TinyModule):
        def configure_model(self):
            events.append("configure_model")

        def configure_optimizers(self):
            events.append("configure_optimizers")
            return super().configure_optimizers()

        def train_dataloader(self):
            events.append("train_dataloader")
            return TinyData(1)

        def val_dataloader(self):
            events.append("val_dataloader")
            return TinyData(1)

        def setup(self):
            events.append("setup")

        def on_fit_start(self):
            events.append("on_fit_start")

    class Converts(Precision):
        name = "converts"

        def convert(self, module):
            events.append("convert")

    quiet_trainer(precision=Converts()).fit(Module())
    assert events == [
        "setup",
        "configure_model",
        "convert",
        "configure_optimizers",
        "train_dataloader",
        "val_dataloader",
        "on_fit_start",
    ]


def test_optimizers_may_ask_how_long_the_fit_is():
    class Module(TinyModule):
        def configure_optimizers(self):
            self.asked = (self.trainer.estimated_stepping_batches, self.trainer.num_training_batches)
            return super().configure_optimizers()

    module = Module()
    quiet_trainer(max_epochs=3).fit(module, TinyData(4))
    assert module.asked == (12, 4)


def test_a_second_fit_begins_at_the_next_epoch_and_forgets_what_was_cut_short():
    seen = []

    class Looks:
        def on_train_batch_start(self, trainer, batch_idx):
            seen.append((trainer.current_epoch, batch_idx, trainer.fit_run.accumulation.batches))

    module = TinyModule()
    trainer = quiet_trainer(max_epochs=2, max_steps=1, accumulate_grad_batches=2, callbacks=[Looks()])
    trainer.fit(module, TinyData(4))
    trainer.fit_run.accumulation.rewind(1)
    trainer.arguments = quiet_trainer(max_epochs=1).arguments
    trainer.fit(module, TinyData(2))
    assert seen == [(0, 0, 0), (0, 1, 1), (0, 0, 0), (0, 1, 0)]
    assert trainer.progress.validated_batch == -1


def test_dtypes_of_batches_are_changed_where_the_precision_says_so():
    class Own(Precision):
        name = "own"

        def convert_batch(self, batch):
            return [tensor + 1 for tensor in batch]

    x = TinyData(1)[0][0]
    for precision, expected in (("32-true", x), ("bf16-true", x.bfloat16()), (Own(), x + 1)):
        trainer = quiet_trainer(precision=precision)
        trainer.fit(TinyModule(), TinyData(1))
        moved = trainer.fit_run.transfer(TinyData(1)[0], 0)[0]
        assert moved.dtype is expected.dtype
        assert torch.equal(moved, expected)


class NoStep(TinyModule):
    training_step = TrainModule.training_step


class TwoOptimizers(TinyModule):
    def configure_optimizers(self):
        return [torch.optim.SGD(self.parameters()) for _ in range(2)]


@pytest.mark.parametrize(
    ("kind", "error", "message"),
    [(NoStep, ModuleError, "has no training_step"), (TwoOptimizers, OptimizerError, "returned 2 optimizers")],
)
def test_what_cannot_be_trained_has_no_run(kind, error, message):
    trainer = quiet_trainer()
    with pytest.raises(error, match=message):
        trainer.fit(kind(), TinyData(1))
    assert trainer.optimizers == []


def test_schedulers_are_stepped_by_a_plugin_of_the_run():
    class Module(TinyModule):
        def configure_optimizers(self):
            optimizer = super().configure_optimizers()
            return [optimizer], [torch.optim.lr_scheduler.StepLR(optimizer, 1, gamma=0.5)]

    trainer = quiet_trainer(max_epochs=2)
    trainer.fit(Module(), TinyData(1))
    assert trainer.optimizers[0].param_groups[0]["lr"] == pytest.approx(0.1 / 4)
    assert len(trainer.fit_run.schedulers) == 1


def test_a_run_that_is_resumed_at_the_end_of_an_epoch_has_the_next_one_before_it(tmp_path):
    class Saves:
        stage = "persist"  # after all others, so that none is still to be called

        def on_train_epoch_end(self, trainer):
            trainer.save_checkpoint(tmp_path / "file.ckpt")

    class Module(TinyModule):
        def configure_optimizers(self):
            self.epoch = self.trainer.current_epoch
            return super().configure_optimizers()

    trainer, module = quiet_trainer(callbacks=[Saves()]), Module()
    trainer.fit(module, TinyData(2))
    assert (module.epoch, trainer.fit_run.is_resumed) == (0, False)
    resumed = quiet_trainer(max_epochs=2)
    resumed.fit(module, TinyData(2), ckpt_path=tmp_path / "file.ckpt")
    assert (module.epoch, resumed.fit_run.is_resumed) == (1, True)
    assert resumed.global_step == 4
