from __future__ import annotations

import pytest
import torch
from torch.utils.data import DataLoader

from trainkit.precision.base import Precision
from trainkit.testing import Recorder, TinyData, TinyModule, quiet_trainer

EVENTS = ("start", "epoch_start", "batch_start", "batch_end", "epoch_end", "end")


class Steps(TinyModule):
    """Writes its steps into a recorder, between the hooks."""

    recorder: Recorder

    def validation_step(self, batch, batch_idx, dataloader_idx=0):
        self.recorder.note(f"step {dataloader_idx}.{batch_idx}")
        self.log("value", float(batch_idx + 10 * dataloader_idx), on_epoch=True)
        return (dataloader_idx, batch_idx)

    test_step = predict_step = validation_step


class Predicts(Steps):
    def predict_step(self, batch, batch_idx, dataloader_idx=0):
        self.recorder.note(f"step {dataloader_idx}.{batch_idx}")
        return (dataloader_idx, batch_idx)


def recorder_of(stage):
    return Recorder([f"on_{stage}_{event}" for event in EVENTS])


def loaders_of(*sizes):
    return [DataLoader(TinyData(size), batch_size=None) for size in sizes]


def evaluate(stage, loaders, **arguments):
    module = Predicts() if stage == "predict" else Steps()
    module.recorder = recorder = recorder_of({"validate": "validation"}.get(stage, stage))
    trainer = quiet_trainer(callbacks=[recorder], **arguments)
    options = {} if stage == "predict" else {"verbose": False}
    return getattr(trainer, stage)(module, loaders, **options), recorder


@pytest.mark.parametrize(("stage", "name"), [("validate", "validation"), ("test", "test"), ("predict", "predict")])
def test_the_order_is_the_promised_one(stage, name):
    _, recorder = evaluate(stage, loaders_of(2, 1))
    batches = []
    for step in ("step 0.0", "step 0.1", "step 1.0"):
        batches += [f"on_{name}_batch_start", step, f"on_{name}_batch_end"]
    start, end = [f"on_{name}_start", f"on_{name}_epoch_start"], [f"on_{name}_epoch_end", f"on_{name}_end"]
    assert recorder.names == [*start, *batches, *end]


def test_hooks_of_batches_are_told_which_batch_of_which_loader():
    _, recorder = evaluate("validate", loaders_of(2, 1))
    told = [
        (call["outputs"], call["batch_idx"], call["dataloader_idx"])
        for call in recorder.arguments("on_validation_batch_end")
    ]
    assert told == [((0, 0), 0, 0), ((0, 1), 1, 0), ((1, 0), 0, 1)]


def test_the_metrics_of_the_whole_pass_are_returned_loader_by_loader():
    results, _ = evaluate("test", loaders_of(3, 2))
    assert results == [{"value/dataloader_idx_0": 1.0}, {"value/dataloader_idx_1": 10.5}]


def test_what_is_logged_when_the_epoch_ends_is_returned_too():
    class AtTheEnd(TinyModule):
        def on_validation_epoch_end(self):
            self.log("at the end", 3.0)

    (result,) = quiet_trainer().validate(AtTheEnd(), TinyData(1), verbose=False)
    assert result["at the end"] == 3.0


def test_predictions_are_those_of_every_batch_in_order():
    assert evaluate("predict", TinyData(2))[0] == [(0, 0), (0, 1)]
    assert evaluate("predict", loaders_of(2, 1))[0] == [[(0, 0), (0, 1)], [(1, 0)]]


def test_the_step_runs_under_autocast_and_the_hooks_do_not():
    class Context:
        inside = False

        def __enter__(self):
            Context.inside = True

        def __exit__(self, *_):
            Context.inside = False

    class Autocast(Precision):
        name = "autocast"

        def autocast(self):
            return Context()

    class Module(TinyModule):
        def validation_step(self, batch, batch_idx):
            seen.append(("step", Context.inside))

        def on_validation_batch_end(self):
            seen.append(("hook", Context.inside))

    seen = []
    quiet_trainer(precision=Autocast()).validate(Module(), TinyData(1), verbose=False)
    assert seen == [("step", True), ("hook", False)]


def test_counters_of_a_fit_are_not_moved_by_an_evaluation_beside_it():
    trainer = quiet_trainer()
    module = TinyModule()
    trainer.fit(module, TinyData(2))
    before = trainer.progress.state_dict()
    trainer.validate(module, TinyData(3), verbose=False)
    trainer.predict(module, TinyData(3))
    assert trainer.progress.state_dict() == before


def test_a_validation_within_a_fit_counts_where_it_is():
    seen = []

    class Looks:
        def on_validation_batch_start(self, trainer, batch_idx, dataloader_idx):
            seen.append((trainer.progress.validation_loader, trainer.progress.validation_batch))

    trainer = quiet_trainer(callbacks=[Looks()])
    module = Steps()
    module.recorder = Recorder([])
    trainer.fit(module, TinyData(1), loaders_of(2, 2))
    assert seen == [(0, 0), (0, 1), (0, 2), (1, 1)]
    assert not trainer.progress.in_validation
    assert trainer.fit_run.clock.since_validation_s() < trainer.progress.elapsed_s, "the time of it was not marked"


def test_a_sanity_check_draws_from_random_numbers_of_its_own():
    class Draws(TinyModule):
        def validation_step(self, batch, batch_idx):
            self.drawn = torch.rand(())

    torch.manual_seed(1)
    expected = torch.rand(())
    torch.manual_seed(1)
    quiet_trainer(num_sanity_val_steps=2, max_epochs=0).fit(Draws(), TinyData(1), TinyData(2))
    torch.manual_seed(1)
    assert torch.rand(()) == expected
