from __future__ import annotations

import copy

import numpy as np
import pytest
import torch

from trainkit import DataModule
from trainkit.checkpoint import state
from trainkit.errors import CheckpointError
from trainkit.hooks.manager import HookManager
from trainkit.precision import MixedFloat16
from trainkit.precision.base import Precision
from trainkit.precision.dtypes import Float32
from trainkit.seed import rng_state, set_rng_state
from trainkit.testing import TinyData, TinyModule, assert_same_state, assert_same_weights, quiet_trainer
from trainkit.trainer.run_state import due_hook, dump, dump_weights, restore_beginning


class Module(TinyModule):
    """Momentum, a scheduler, random numbers, and something that is logged over an epoch."""

    def training_step(self, batch, batch_idx):
        loss = self.loss(batch) * (1 + torch.rand(()))
        self.log("loss", loss, on_epoch=True)
        return loss

    def configure_optimizers(self):
        optimizer = torch.optim.SGD(self.parameters(), lr=0.1, momentum=0.9)
        return [optimizer], [{"scheduler": torch.optim.lr_scheduler.StepLR(optimizer, 2), "interval": "step"}]


class Counts:
    """A plugin with memory."""

    def __init__(self):
        self.batches = 0

    def on_train_batch_end(self):
        self.batches += 1

    def state_dict(self):
        return {"batches": self.batches}

    def load_state_dict(self, loaded):
        self.batches = loaded["batches"]


class DumpsAfter:
    """Keeps what would be saved after a batch, or when training starts if that is None."""

    def __init__(self, batch):
        self.batch, self.checkpoint = batch, None

    def on_train_start(self, trainer):
        if self.batch is None:
            self.checkpoint = copy.deepcopy(trainer.dump_checkpoint())
            trainer.should_stop = True

    def on_train_batch_end(self, trainer):
        if trainer.progress.total_batches == self.batch:
            self.checkpoint = copy.deepcopy(trainer.dump_checkpoint())


def fit(module, dumps=None, ckpt_path=None, num_batches=5, **arguments):
    callbacks = [Counts(), *([dumps] if dumps else [])]
    trainer = quiet_trainer(**({"max_epochs": 2, "callbacks": callbacks} | arguments))
    trainer.fit(module, TinyData(num_batches), ckpt_path=ckpt_path)
    return trainer


def written(tmp_path, checkpoint):
    torch.save(checkpoint, tmp_path / "file.ckpt")
    return tmp_path / "file.ckpt"


@pytest.fixture
def checkpoint():
    """What is saved after the second of five batches, in the middle of a group of three."""
    dumps = DumpsAfter(2)
    fit(Module(), dumps, accumulate_grad_batches=3)
    return dumps.checkpoint


WEIGHTS = {
    "epoch",
    "global_step",
    "state_dict",
    "pytorch-lightning_version",
    "trainkit",
    "hyper_parameters",
    "hparams_name",
}
SIGNATURE = {"format", "version", "module", "hparams_left_out", "hparams_types", "hparams_enums"}
TRAINING = {"optimizer_states", "lr_schedulers", "loops", "callbacks"}


def test_the_keys_of_a_checkpoint(checkpoint):
    assert checkpoint.keys() == WEIGHTS | TRAINING
    own = checkpoint["trainkit"]
    assert own.keys() == SIGNATURE | {
        "precision",
        "shuffle_seed",
        "global_batch",
        "flags",
        "stop",
        "made_with",
        "origins",
        "due",
        "ranks",
    }  # due: of the hook that runs
    assert [rank.keys() for rank in own["ranks"]] == [{"metrics", "group", "data", "began", "rng"}]
    assert checkpoint["loops"]["fit"].keys() == {
        "epoch", "batch", "is_last", "epoch_started", "epoch_ended", "epoch_left", "validated_batch",
        "validation_started", "validation_loader", "validation_batch",
        "validation_ending", "global_step", "total_batches", "micro_batch_size", "group_batches",
            "samples", "validated_at_step", "validated_at_batches", "validated_at_samples", "validated_at_epochs",
        "elapsed_s", "ended",
    }  # fmt: skip
    states = checkpoint["callbacks"]
    assert states.keys() == {"Counts", "MetricRows", "LRSchedulers"}
    assert states["Counts"] == {"batches": 2}


def test_weights_alone_have_nothing_of_training():
    trainer = fit(Module())
    weights = dump_weights(trainer.run, trainer._data)
    assert weights.keys() == WEIGHTS
    hparams = {"hparams_left_out": [], "hparams_types": {"items": {}}, "hparams_enums": {}}
    assert weights["trainkit"] == state.signature(trainer.module) | hparams
    assert (weights["epoch"], weights["global_step"]) == (2, 10)
    assert_same_state(weights["state_dict"], trainer.module.state_dict())


def test_hyperparameters_of_the_data_module_are_there_too():
    class Data(DataModule):
        def __init__(self, size=2):
            super().__init__()
            self.save_hyperparameters()

        def train_dataloader(self):
            return TinyData(1)

    trainer = quiet_trainer()
    trainer.fit(Module(), datamodule=Data(3))
    weights = dump_weights(trainer.run, trainer._data)
    assert weights["datamodule_hyper_parameters"] == {"size": 3}


def test_dumping_changes_nothing():
    trainer = fit(Module())
    before = copy.deepcopy((trainer.module.state_dict(), trainer.progress.state_dict(), rng_state()))
    first = copy.deepcopy(dump(trainer.fit_run, trainer.hooks.plugins, trainer._data))
    assert_same_state((trainer.module.state_dict(), trainer.progress.state_dict(), rng_state()), before)
    assert_same_state(dump(trainer.fit_run, trainer.hooks.plugins, trainer._data), first)


def without_time(checkpoint):
    """Return what has to be the same after resuming: all but the seconds that a fit has taken."""
    checkpoint = copy.deepcopy(checkpoint)
    checkpoint["loops"]["fit"].pop("elapsed_s")
    return checkpoint


@pytest.mark.parametrize("after", [1, 2, 3, 4, 7])
@pytest.mark.parametrize("accumulate", [1, 3])
def test_what_was_dumped_is_what_is_dumped_again_after_it_was_restored(tmp_path, after, accumulate):
    first, again = DumpsAfter(after), DumpsAfter(None)
    torch.manual_seed(1)
    fit(Module(), first, accumulate_grad_batches=accumulate)
    torch.manual_seed(2)
    fit(Module(), again, written(tmp_path, first.checkpoint), accumulate_grad_batches=accumulate)
    assert_same_state(without_time(again.checkpoint), without_time(first.checkpoint))


def test_an_open_group_is_saved_with_its_gradients(checkpoint):
    assert checkpoint["loops"]["fit"]["group_batches"] == 2
    group = checkpoint["trainkit"]["ranks"][0]["group"]
    assert group["divisor"] == 3
    assert group["gradients"].keys() == {"layer.weight", "layer.bias"}


def test_a_file_without_the_size_of_its_group_is_read(tmp_path):
    """Between two groups there is nothing to know; older files do not say it."""
    dumps = DumpsAfter(3)
    whole, resumed = Module(), Module()
    fit(whole, dumps)
    del dumps.checkpoint["loops"]["fit"]["group_batches"]
    trainer = fit(resumed, ckpt_path=written(tmp_path, dumps.checkpoint))
    assert trainer.global_step == 10
    assert_same_weights(resumed, whole)


def test_a_file_of_weights_only_cannot_be_resumed(tmp_path):
    trainer = fit(Module())
    path = written(tmp_path, dump_weights(trainer.run, trainer._data))
    with pytest.raises(CheckpointError, match="weights only"):
        fit(Module(), ckpt_path=path)


def test_a_checkpoint_of_other_optimizers_is_refused(tmp_path, checkpoint):
    with pytest.raises(CheckpointError, match="holds the state of StepLR, and configure_optimizers gave no scheduler"):
        fit(TinyModule(), ckpt_path=written(tmp_path, checkpoint))


def test_ranks_cannot_change_in_the_middle_of_an_epoch(tmp_path, checkpoint):
    checkpoint["trainkit"]["ranks"] *= 2
    with pytest.raises(CheckpointError, match="saved by 2 ranks in the middle of an epoch, and there are 1 now"):
        fit(Module(), ckpt_path=written(tmp_path, checkpoint), accumulate_grad_batches=3)


def test_ranks_may_change_between_two_epochs(tmp_path):
    whole, resumed = Module(), Module()
    torch.manual_seed(1)
    fit(whole)
    torch.manual_seed(1)
    trainer = fit(Module(), max_epochs=1)
    checkpoint = copy.deepcopy(trainer.dump_checkpoint())
    checkpoint["trainkit"]["ranks"] *= 2
    with pytest.warns(UserWarning, match="cannot be dealt anew.* so the global batches are others than they were"):
        fit(resumed, ckpt_path=written(tmp_path, checkpoint))
    assert_same_weights(resumed, whole)


def test_a_limit_that_lies_behind_cannot_be_kept(tmp_path, checkpoint):
    path = written(tmp_path, checkpoint)
    with pytest.raises(
        CheckpointError, match="behind 2 batches of epoch 0, and an epoch ends after 2 now: by limit_train_batches"
    ):
        fit(Module(), ckpt_path=path, limit_train_batches=2, accumulate_grad_batches=3)


def test_plugins_are_restored_before_optimizers(tmp_path, checkpoint):
    order = []

    class Remembers(Counts):
        name = "Counts"

        def load_state_dict(self, loaded):
            super().load_state_dict(loaded)
            order.append("plugin")

    class Watched(Module):
        def configure_optimizers(self):
            optimizers, schedulers = super().configure_optimizers()
            optimizers[0].register_load_state_dict_pre_hook(lambda *_: order.append("optimizer"))
            return optimizers, schedulers

    plugin = Remembers()
    fit(Watched(), ckpt_path=written(tmp_path, checkpoint), callbacks=[plugin], accumulate_grad_batches=3)
    assert order == ["plugin", "optimizer"]
    assert plugin.batches == 10


def test_a_value_that_cannot_be_saved_is_found_when_the_fit_starts(tmp_path):
    class Odd(Counts):
        def state_dict(self):
            return {"odd": object()}

    trainer = quiet_trainer(callbacks=[Odd()], enable_checkpointing=True, default_root_dir=tmp_path)
    with pytest.raises(CheckpointError, match="odd[\\s\\S]*object"):
        trainer.fit(Module(), TinyData(2))
    assert trainer.global_step == 0
    fit(Module(), callbacks=[Odd()])


def test_two_views_of_one_memory_as_different_types_are_found_when_the_fit_starts(tmp_path):
    class Viewed(TinyModule):
        def __init__(self):
            super().__init__()
            self.register_buffer("a", torch.zeros(3))
            self.register_buffer("b", self.a.view(torch.int32))

    trainer = quiet_trainer(enable_checkpointing=True, default_root_dir=tmp_path)
    with pytest.raises(CheckpointError, match=r"state_dict.b is a view as torch.int32 .* state_dict.a .* clone"):
        trainer.fit(Viewed(), TinyData(2))
    assert trainer.global_step == 0


def test_a_learning_rate_of_numpy_is_saved_as_a_number_of_python(tmp_path):
    class Module(TinyModule):
        def configure_optimizers(self):
            optimizer = torch.optim.SGD(self.parameters(), lr=np.logspace(-2, -1, 2)[0], momentum=np.float32(0.5))
            scheduler = torch.optim.lr_scheduler.StepLR(optimizer, np.int64(1), gamma=np.float64(0.5))
            return [optimizer], [{"scheduler": scheduler, "frequency": np.int64(1)}]

    trainer = quiet_trainer(max_epochs=1, default_root_dir=tmp_path)
    trainer.fit(Module(), TinyData())
    trainer.save_checkpoint(tmp_path / "numpy.ckpt")
    trainer = quiet_trainer(max_epochs=2, default_root_dir=tmp_path)
    trainer.fit(Module(), TinyData(), ckpt_path=tmp_path / "numpy.ckpt")
    assert trainer.optimizers[0].param_groups[0]["lr"] == 0.01 * 0.5**2
    assert trainer.current_epoch == 2


def test_a_data_module_that_cannot_be_saved_is_found_too(tmp_path):
    class Data(DataModule):
        def train_dataloader(self):
            return TinyData(1)

        def state_dict(self):
            return {"odd": object()}

    trainer = quiet_trainer(enable_checkpointing=True, default_root_dir=tmp_path)
    with pytest.raises(CheckpointError, match="datamodule[\\s\\S]*odd"):
        trainer.fit(Module(), datamodule=Data())
    assert trainer.global_step == 0


def test_a_precision_has_its_state_back(tmp_path):
    class Counted(Precision):
        name = "counted"

        def state_dict(self):
            return {"count": 3}

        def load_state_dict(self, loaded):
            self.loaded = loaded

    trainer = fit(TinyModule(), precision=Counted())
    path, precision = written(tmp_path, trainer.dump_checkpoint()), Counted()
    fit(TinyModule(), ckpt_path=path, precision=precision, max_epochs=3)
    assert precision.loaded == {"count": 3}


PRECISIONS = ["32-true", "64-true", "bf16-true", "16-mixed"]


@pytest.mark.parametrize("then", PRECISIONS)
@pytest.mark.parametrize("now", PRECISIONS)
def test_an_open_group_goes_on_in_another_precision(tmp_path, then, now):
    def precision(name):
        return MixedFloat16(torch.amp.GradScaler("cpu", init_scale=64.0)) if name == "16-mixed" else name

    alone, dumps, resumed = TinyModule(), DumpsAfter(2), TinyModule()
    arguments = {"accumulate_grad_batches": 3, "max_epochs": 1}
    for module, given in ((alone, {}), (TinyModule(), {"dumps": dumps})):
        torch.manual_seed(0)
        fit(module, **given, precision=precision(then), **arguments)
    fit(resumed, ckpt_path=written(tmp_path, dumps.checkpoint), precision=precision(now), **arguments)
    for weight, expected in zip(resumed.parameters(), alone.parameters(), strict=True):
        torch.testing.assert_close(weight, expected, rtol=2e-2, atol=2e-3, check_dtype=False)


def test_an_epoch_that_has_ended_leaves_no_metrics_to_the_next_one(tmp_path):
    class DumpsAtTheEnd(DumpsAfter):
        def on_train_epoch_end(self, trainer):
            self.checkpoint = self.checkpoint or copy.deepcopy(trainer.dump_checkpoint())

    dumps = DumpsAtTheEnd(0)
    whole = fit(Module(), dumps)
    resumed = fit(Module(), ckpt_path=written(tmp_path, dumps.checkpoint))
    assert resumed.callback_metrics["loss_epoch"] == whole.callback_metrics["loss_epoch"]


def test_a_data_module_has_its_state_back_before_it_gives_loaders(tmp_path):
    class Data(DataModule):
        def __init__(self):
            super().__init__()
            self.events = []

        def state_dict(self):
            return {"events": len(self.events)}

        def load_state_dict(self, state):
            self.events.append(f"loaded {state['events']}")

        def train_dataloader(self):
            self.events.append("loader")
            return TinyData(1)

    trainer = quiet_trainer()
    trainer.fit(Module(), datamodule=Data())
    data = Data()
    path = written(tmp_path, trainer.dump_checkpoint())
    quiet_trainer(max_epochs=2).fit(Module(), datamodule=data, ckpt_path=path)
    assert data.events == ["loaded 1", "loader"]


def test_hyperparameters_that_cannot_be_saved_are_told_when_the_fit_starts(tmp_path):
    class Odd(Module):
        def __init__(self, odd):
            super().__init__()
            self.save_hyperparameters()

    trainer = quiet_trainer(enable_checkpointing=True, default_root_dir=tmp_path)
    with pytest.warns(UserWarning, match="odd"):
        trainer.fit(Odd(object()), TinyData(1))


def test_a_save_in_a_step_warns_and_one_between_two_does_not(tmp_path):
    class Saves:
        def on_before_zero_grad(self, trainer):
            trainer.dump_checkpoint()

    with pytest.warns(UserWarning, match="in the middle of a step, that of batch 0 in epoch 0"):
        fit(Module(), callbacks=[Saves()], max_epochs=1, num_batches=1)


def test_a_resumed_run_is_prepared_from_the_random_numbers_it_began_with():
    trainer = fit(Module())
    data = trainer._data
    torch.manual_seed(3)
    began = rng_state()
    torch.manual_seed(4)
    other = rng_state()
    ranks = {"trainkit": {"ranks": [{"began": other}, {"began": began}]}}
    for rank, expected in ((0, other), (1, began), (2, other)):
        torch.manual_seed(5)
        restore_beginning(data, ranks, "file.ckpt", rank)
        assert_same_state(rng_state(), expected)
        assert_same_state(data.rng_at_start, expected)
    for nothing in (None, {}, {"trainkit": {"ranks": []}}, {"trainkit": {"ranks": [{}]}}):
        set_rng_state(began)
        restore_beginning(data, nothing, "file.ckpt", 0)
        assert_same_state(rng_state(), began)
        assert_same_state(data.rng_at_start, began)


@pytest.mark.parametrize("name", ["teardown", "on_exception", "around_save_checkpoint", "__init__", "x"])
def test_a_file_has_no_other_hook_called_than_those_that_a_run_finishes(name):
    with pytest.raises(CheckpointError, match=f"says that '{name}' was running"):
        due_hook({"trainkit": {"due": {"name": name, "plugins": []}}}, HookManager())


class Scaled(Float32):
    """One of another package, with a state of its own."""

    name = "scaled"

    def __init__(self):
        super().__init__()
        self.given = []

    def state_dict(self):
        return {"scale": 2.0, "steps": 3}

    def load_state_dict(self, state):
        self.given.append(state)


@pytest.mark.parametrize("before", ["scaled", "16-mixed", "32-true"])
@pytest.mark.parametrize("now", ["scaled", "16-mixed", "32-true"])
def test_a_precision_is_given_its_own_state_and_not_that_of_another(before, now, tmp_path):
    def fit(name, epochs, path=None):
        precision = Scaled() if name == "scaled" else name
        trainer = quiet_trainer(precision=precision, max_epochs=epochs)
        trainer.fit(TinyModule(), TinyData(2), ckpt_path=path)
        return trainer

    first = fit(before, 1)
    first.save_checkpoint(tmp_path / "one.ckpt")
    second = fit(now, 2, tmp_path / "one.ckpt")
    if now == "scaled":
        assert second.precision.given == [{"scale": 2.0, "steps": 3} if before == "scaled" else {}]
