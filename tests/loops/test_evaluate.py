from __future__ import annotations

import signal

import pytest
import torch
from torch.utils.data import DataLoader

from trainkit.data.loaders import LimitedLoader
from trainkit.loops import evaluate as loop
from trainkit.precision.base import Precision
from trainkit.testing import Recorder, TinyData, TinyModule, quiet_trainer
from trainkit.types import Phase

EVENTS = ("start", "epoch_start", "batch_start", "batch_end", "epoch_end", "end")


class Steps(TinyModule):
    """Writes its steps into a recorder, between the hooks."""

    recorder: Recorder

    def validation_step(self, batch, batch_idx, dataloader_idx=0):
        self.recorder.note(f"step {dataloader_idx}.{batch_idx}")
        self.log("value", float(batch_idx + 10 * dataloader_idx), on_epoch=True)
        return (dataloader_idx, batch_idx)

    test_step = predict_step = validation_step


class LogsNothing(Steps):
    def validation_step(self, batch, batch_idx, dataloader_idx=0):
        self.recorder.note(f"step {dataloader_idx}.{batch_idx}")
        return (dataloader_idx, batch_idx)

    predict_step = validation_step


def recorder_of(stage):
    return Recorder([f"on_{stage}_{event}" for event in EVENTS])


def loaders_of(*sizes):
    return [DataLoader(TinyData(size), batch_size=None) for size in sizes]


def evaluate(stage, loaders, **arguments):
    module = LogsNothing() if stage == "predict" else Steps()
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


def test_a_mean_over_the_pass_is_one_over_samples():
    module = Steps()
    module.recorder = Recorder([])
    (result,) = quiet_trainer().test(module, TinyData(2, batch_size=3, last_batch_size=1), verbose=False)
    assert result == {"value": 0.25}


def cut_short(module):
    """Evaluate as in a fit that continues behind the first batch of the second of three loaders."""
    trainer = quiet_trainer(max_epochs=0)
    trainer.fit(module, TinyData(1), loaders_of(2, 3, 1))
    run, hooks = trainer.fit_run, trainer.hooks.hooks
    run.progress.validation_loader = run.progress.validation_batch = 1
    loaders = [LimitedLoader(loader) for loader in loaders_of(2, 3, 1)]
    loop.evaluate(run, hooks, hooks.validation, loaders, Phase.VALIDATE, progress=run.progress)
    return run.progress


def test_a_validation_that_was_cut_short_goes_on_where_it_was():
    module = LogsNothing()
    module.recorder = Recorder([])
    progress = cut_short(module)
    assert module.recorder.names == ["step 1.1", "step 1.2", "step 2.0"]
    assert not progress.in_validation
    assert progress.validated_batch == progress.batch


def test_what_hooks_draw_again_when_it_goes_on_is_no_news_to_the_run():
    class Draws(TinyModule):
        def validation_step(self, batch, batch_idx, dataloader_idx=0):
            self.drawn = torch.rand(())

    class DrawsAtTheStart(Draws):
        def on_validation_epoch_start(self):
            torch.rand(())

    drawn = []
    for module in (Draws(), DrawsAtTheStart()):
        torch.manual_seed(1)
        cut_short(module)
        drawn.append(module.drawn)
    assert drawn[0] == drawn[1]


def test_a_signal_is_honoured_after_the_running_batch():
    class Signals:
        batches = 0

        def on_validation_batch_end(self, trainer):
            self.batches += 1
            trainer.run.stop_signal.received = signal.SIGTERM

    plugin = Signals()
    with pytest.raises(SystemExit, match="143"):
        quiet_trainer(callbacks=[plugin]).validate(TinyModule(), TinyData(3), verbose=False)
    assert plugin.batches == 1


def test_a_sanity_check_leaves_no_metrics_and_no_wish_to_stop():
    class Stops:
        def on_sanity_check_end(self, trainer):
            trainer.should_stop = True

        def on_train_start(self, trainer):
            self.metrics = dict(trainer.callback_metrics)

    plugin = Stops()
    trainer = quiet_trainer(num_sanity_val_steps=1, max_epochs=2, callbacks=[plugin])
    trainer.fit(TinyModule(), TinyData(2), TinyData(1))
    assert plugin.metrics == {}
    assert trainer.global_step == 4


def test_time_is_counted_from_the_end_of_a_validation():
    since = []

    class Looks:
        def on_validation_end(self, trainer):
            trainer.progress._counted_s += 1000.0
            since.append(trainer.fit_run.clock.since_validation_s() >= 1000.0)

        def on_train_epoch_end(self, trainer):
            since.append(trainer.fit_run.clock.since_validation_s() >= 1000.0)

    quiet_trainer(callbacks=[Looks()]).fit(TinyModule(), TinyData(1), TinyData(1))
    assert since == [True, False]


def test_hooks_of_a_sanity_check_may_draw_random_numbers():
    class Draws:
        def on_sanity_check_start(self):
            torch.rand(())

        def on_train_start(self):
            drawn.append(torch.rand(()))

    drawn = []
    for steps in (0, 1):
        torch.manual_seed(1)
        quiet_trainer(num_sanity_val_steps=steps, callbacks=[Draws()]).fit(TinyModule(), TinyData(1), TinyData(1))
    assert drawn[0] == drawn[1]
