from __future__ import annotations

import contextlib
import io
import itertools
import math

import pytest
import torch

from trainkit import Callback, JointOptimizer
from trainkit.callbacks import ProgressBar
from trainkit.callbacks.progress_bar import callback
from trainkit.errors import ConfigError
from trainkit.testing import TinyData, TinyModule, check_callback, quiet_trainer


class Clock:
    """A clock that goes on by itself, a little at each look."""

    def __init__(self, tick):
        self.now = 0.0
        self.tick = tick

    def __call__(self):
        self.now += self.tick
        return self.now


class Kept:
    """A display that keeps what it is shown."""

    def __init__(self):
        self.shown = []
        self.finished = []
        self.closed = 0

    def show(self, bars, values):
        self.shown.append(([(bar.label, bar.done, bar.total) for bar in bars], dict(values)))

    def finish(self, bars, values):
        self.finished.append(([(bar.label, bar.done, bar.total) for bar in bars], dict(values)))

    def close(self):
        self.closed += 1


class Logs(TinyModule):
    def training_step(self, batch, batch_idx):
        self.log("loss", float(batch_idx), prog_bar=True)
        return self.loss(batch)

    def validation_step(self, batch, batch_idx):
        self.log("val", 2.0 * batch_idx, prog_bar=True)

    test_step = validation_step


class Endless:
    """Batches that do not say how many they are."""

    def __init__(self, num_batches):
        self.batches = TinyData(num_batches)

    def __iter__(self):
        return iter(self.batches)


@pytest.fixture
def display(monkeypatch):
    display = Kept()
    monkeypatch.setattr(callback, "open_display", lambda leave: display)
    monkeypatch.setattr(callback, "monotonic", Clock(tick=1.0))
    monkeypatch.setattr(callback, "MAX_TIME_SHARE", math.inf)  # so a refresh is due after every batch
    return display


def trainer_with(bar=None, **arguments):
    return quiet_trainer(callbacks=[bar or ProgressBar()], enable_progress_bar=True, **arguments)


def test_a_fit_shows_epochs_with_validation_nested(display):
    trainer_with(max_epochs=2).fit(Logs(), TinyData(2), TinyData(1))
    assert display.shown[:7] == [
        ([("Epoch 1/2", 0, 2)], {}),
        ([("Epoch 1/2", 1, 2)], {"loss": 0.0}),
        ([("Epoch 1/2", 2, 2)], {"loss": 1.0}),
        ([("Epoch 1/2", 2, 2), ("Validation", 0, 1)], {"loss": 1.0}),
        ([("Epoch 1/2", 2, 2), ("Validation", 1, 1)], {"loss": 1.0}),
        ([("Epoch 2/2", 0, 2)], {"loss": 1.0, "val": 0.0}),
        ([("Epoch 2/2", 1, 2)], {"loss": 0.0, "val": 0.0}),
    ]
    assert display.finished == [([(f"Epoch {epoch}/2", 2, 2)], {"loss": 1.0, "val": 0.0}) for epoch in (1, 2)]
    assert display.closed == 1


def test_a_validation_in_mid_epoch_shows_how_far_the_epoch_is(display):
    trainer_with(val_check_interval=1).fit(Logs(), TinyData(2), TinyData(3))
    validations = [bars for bars, _ in display.shown if len(bars) == 2]
    assert validations == [
        [("Epoch 1/1", epoch_done, 2), ("Validation", done, 3)] for epoch_done in (1, 2) for done in range(4)
    ]


def test_the_sanity_check_has_a_bar_of_its_own_and_does_not_end_up_in_the_record(display):
    trainer_with(num_sanity_val_steps=2).fit(Logs(), TinyData(1), TinyData(3))
    assert [bars for bars, _ in display.shown[:3]] == [[("Sanity check", done, 2)] for done in range(3)]
    assert [bars for bars, _ in display.finished] == [[("Epoch 1/1", 1, 1)]]


@pytest.mark.parametrize(
    ("stage", "label", "values"),
    [("validate", "Validation", {"val": 1.0}), ("test", "Test", {"val": 1.0}), ("predict", "Prediction", {})],
)
def test_other_entry_points_show_their_own_bar(display, stage, label, values):
    getattr(trainer_with(), stage)(Logs(), TinyData(2, batch_size=1))
    assert [bars for bars, _ in display.shown] == [[(label, done, 2)] for done in range(3)]
    assert display.finished == [([(label, 2, 2)], values)]


def test_several_loaders_are_counted_together(display):
    class Module(Logs):
        def validation_step(self, batch, batch_idx, dataloader_idx):
            pass

    trainer_with().validate(Module(), _loaders(2, 1))
    assert [bars[0][1:] for bars, _ in display.shown] == [(0, 3), (1, 3), (2, 3), (3, 3)]


def _loaders(*lengths):
    from torch.utils.data import DataLoader

    return [DataLoader(TinyData(length), batch_size=None) for length in lengths]


def test_unknown_lengths_have_no_total(display):
    trainer_with().fit(Logs(), Endless(2), Endless(1))
    assert [bars for bars, _ in display.shown][2:4] == [
        [("Epoch 1/1", 2, None)],
        [("Epoch 1/1", 2, None), ("Validation", 0, None)],
    ]


@pytest.mark.parametrize(
    ("data", "arguments", "totals"),
    [
        (Endless(9), {"max_epochs": -1, "max_steps": 7}, [7]),
        (Endless(9), {"max_epochs": -1, "max_steps": 4, "accumulate_grad_batches": 2}, [8]),
        (Endless(4), {"max_epochs": -1, "max_steps": 6}, [6, 2]),  # the stream ends in between
        (Endless(3), {"max_epochs": 1}, [None]),
        (TinyData(3), {"max_epochs": 2, "max_steps": 5}, [3, 2]),
        (TinyData(3), {"max_epochs": 2, "max_steps": 3, "accumulate_grad_batches": 2}, [3, 2]),
        (TinyData(3), {"max_epochs": 1, "max_steps": 50}, [3]),
    ],
)
def test_the_total_is_what_is_to_come_until_training_ends(display, data, arguments, totals):
    trainer_with(**arguments).fit(Logs(), data)
    begun = [bars[0] for bars, _ in display.shown if bars[0][1] == 0]
    assert [total for _, _, total in begun] == totals


@pytest.mark.filterwarnings("ignore:train_dataloader is a Endless")
def test_a_resumed_epoch_has_the_total_of_an_unbroken_one(display, tmp_path):
    class Save(Callback):
        def on_train_batch_end(self, trainer):
            if trainer.progress.total_batches == 3:
                trainer.save_checkpoint(tmp_path / "a.ckpt")

    arguments = {"max_epochs": -1, "max_steps": 4, "accumulate_grad_batches": 2}
    quiet_trainer(callbacks=[Save()], **arguments).fit(Logs(), Endless(9))
    trainer_with(**arguments).fit(Logs(), Endless(9), ckpt_path=tmp_path / "a.ckpt")
    assert display.shown[0][0] == [("Epoch 1", 3, 8)]
    assert display.finished[-1][0] == [("Epoch 1", 8, 8)]


@pytest.mark.parametrize("limits", [{"max_epochs": -1, "max_steps": 1}, {"max_epochs": None, "max_steps": 1}])
def test_an_epoch_without_a_last_one_has_just_a_number(display, limits):
    trainer_with(**limits).fit(Logs(), TinyData(1))
    assert display.finished[0][0][0][0] == "Epoch 1"


@pytest.mark.filterwarnings("ignore:self.log.'late'. comes after the row")
def test_the_epoch_ends_with_values_that_were_logged_at_its_end(display):
    class Late:
        stage = "decide"

        def on_train_epoch_end(self, module):
            module.log("late", 7.0, prog_bar=True)

    quiet_trainer(callbacks=[ProgressBar(), Late()], enable_progress_bar=True).fit(Logs(), TinyData(1))
    assert display.finished[0][1] == {"loss": 0.0, "late": 7.0}


def test_rows_that_were_read_for_loggers_need_not_be_read_again(display, monkeypatch):
    noted = []
    monkeypatch.setattr(callback.AsyncValues, "update", lambda self, row: noted.append(dict(row)))
    trainer_with(log_every_n_steps=1).fit(Logs(), TinyData(1), TinyData(1))
    assert noted == [{"epoch": 0, "loss": 0.0}, {"epoch": 0, "val": 0.0}]


def test_time_spent_in_validation_does_not_slow_an_epoch_down(display, monkeypatch):
    clock = Clock(tick=0.0)
    monkeypatch.setattr(callback, "monotonic", clock)

    class Passes:
        def on_train_batch_start(self):
            clock.now += 1.0

        def on_validation_batch_start(self):
            clock.now += 100.0

    elapsed = []
    display.finish = lambda bars, values: elapsed.extend(bar.elapsed_s for bar in bars)
    quiet_trainer(callbacks=[Passes(), ProgressBar()], enable_progress_bar=True, val_check_interval=1).fit(
        Logs(), TinyData(3), TinyData(1)
    )
    assert elapsed == [3.0]


def test_an_epoch_that_is_continued_begins_where_it_was_left(display, tmp_path):
    trainer = quiet_trainer(max_steps=2)
    trainer.fit(Logs(), TinyData(4))
    trainer.save_checkpoint(tmp_path / "a.ckpt")
    trainer_with().fit(Logs(), TinyData(4), ckpt_path=tmp_path / "a.ckpt")
    assert [bars[0][1:] for bars, _ in display.shown] == [(2, 4), (3, 4), (4, 4)]


def test_refreshes_are_a_tenth_of_a_second_apart(display, monkeypatch):
    clock = Clock(tick=0.001)
    monkeypatch.setattr(callback, "monotonic", clock)
    times = []
    display.show = lambda bars, values: times.append(clock.now)
    trainer_with().fit(Logs(), TinyData(500))
    assert len(times) > 3
    assert min(later - sooner for sooner, later in itertools.pairwise(times)) >= 0.1


def test_a_slow_terminal_is_asked_less_often(display, monkeypatch):
    clock = Clock(tick=0.001)
    monkeypatch.setattr(callback, "monotonic", clock)
    monkeypatch.setattr(callback, "MAX_TIME_SHARE", 0.02)
    times = []

    def slowly(bars, values):
        times.append(clock.now)
        clock.now += 0.02

    display.show = slowly
    trainer_with().fit(Logs(), TinyData(3000))
    assert len(times) > 2
    assert min(later - sooner for sooner, later in itertools.pairwise(times)) >= 1.0


def test_metrics_are_read_only_when_a_refresh_is_due(display, monkeypatch):
    monkeypatch.setattr(callback, "monotonic", Clock(tick=0.0))
    looks = []
    look = callback.AsyncValues.poll
    monkeypatch.setattr(callback.AsyncValues, "poll", lambda self, metrics: looks.append(1) or look(self, metrics))
    trainer_with().fit(Logs(), TinyData(20))
    assert len(looks) == 2  # when the epoch begins and when it ends


def test_refresh_rate_looks_after_every_nth_batch_only(display):
    trainer_with(ProgressBar(refresh_rate=2)).fit(Logs(), TinyData(5))
    assert [bars[0][1] for bars, _ in display.shown] == [0, 2, 4]


def test_refresh_rate_0_shows_nothing(monkeypatch):
    monkeypatch.setattr(callback, "open_display", lambda leave: pytest.fail("a display was opened"))
    trainer_with(ProgressBar(refresh_rate=0)).fit(Logs(), TinyData(2), TinyData(1))


@pytest.mark.parametrize("error", [ValueError("boom"), KeyboardInterrupt()])
def test_the_display_is_closed_after_an_exception_and_opened_again_for_the_next_run(display, error):
    class Raises(Logs):
        def training_step(self, batch, batch_idx):
            raise error

    trainer = trainer_with()
    with pytest.raises(type(error)):
        trainer.fit(Raises(), TinyData(1))
    assert display.closed == 1
    trainer.fit(Logs(), TinyData(1))
    assert display.closed == 2
    assert display.finished == [([("Epoch 1/1", 1, 1)], {"loss": 0.0})]


def test_a_bar_that_joins_in_mid_run_waits_for_the_next_one(display):
    bar = ProgressBar()

    class Joins:
        def on_train_batch_start(self, trainer):
            if not trainer.hooks.is_registered(bar):
                trainer.hooks.register(bar)

    quiet_trainer(callbacks=[Joins()]).fit(Logs(), TinyData(2), TinyData(1))
    assert (display.shown, display.finished) == ([], [])


@pytest.mark.parametrize("refresh_rate", [-1, 0.5, True])
def test_a_rate_that_cannot_be_is_refused(refresh_rate):
    with pytest.raises(ConfigError, match="refresh_rate"):
        ProgressBar(refresh_rate=refresh_rate)


def test_it_keeps_what_every_callback_promises(capsys):
    check_callback(ProgressBar, enable_progress_bar=True)
    assert "Epoch 2/2: 3/3" in capsys.readouterr().out


@pytest.mark.parametrize("fails_in", ["show", "finish"])
def test_a_display_that_cannot_draw_is_given_up_and_the_run_goes_on(display, monkeypatch, fails_in):
    def fails(bars, values):
        raise BrokenPipeError("nobody reads")

    monkeypatch.setattr("sys.stdout", io.StringIO())
    monkeypatch.setattr(display, fails_in, fails)
    trainer = quiet_trainer(callbacks=[ProgressBar()], enable_progress_bar=True, max_epochs=2)
    with pytest.warns(UserWarning, match="stdout cannot be written to") as told:
        trainer.fit(TinyModule(), TinyData(3))
    assert (len(told), trainer.global_step, display.closed) == (1, 6, 1)


def test_an_epoch_that_is_interrupted_stays_with_the_batches_that_were_done(display, monkeypatch):
    class Fails(Logs):
        def on_train_batch_end(self, batch_idx):
            if batch_idx == 2:
                raise RuntimeError("no more")

    with pytest.raises(RuntimeError, match="no more"):
        trainer_with(ProgressBar(refresh_rate=100)).fit(Fails(), TinyData(5))
    assert [bars for bars, _ in display.finished] == [[("Epoch 1/1", 3, 5)]]


def test_an_error_behind_an_epoch_leaves_one_line_of_it(display):
    class Fails(Logs):
        def on_train_end(self):
            raise RuntimeError("no more")

    with pytest.raises(RuntimeError, match="no more"):
        trainer_with(ProgressBar()).fit(Fails(), TinyData(5))
    assert [bars for bars, _ in display.finished] == [[("Epoch 1/1", 5, 5)]]


@pytest.mark.parametrize("ends", ["error", "stop", "validates rarely"])
def test_a_line_that_remains_has_no_values_of_earlier_epochs(display, ends):
    class Ends(Logs):
        def training_step(self, batch, batch_idx):
            self.log("whole", 1.0, on_step=False, on_epoch=True, prog_bar=True)
            return super().training_step(batch, batch_idx)

        def on_train_batch_end(self, batch_idx):
            if (self.current_epoch, batch_idx) == (1, 2) and ends == "error":
                raise RuntimeError("no more")

    arguments = {"stop": {"max_steps": 8}, "validates rarely": {"check_val_every_n_epoch": 3}}
    trainer = trainer_with(ProgressBar(), max_epochs=4, **arguments.get(ends, {}))
    with contextlib.suppress(RuntimeError):
        trainer.fit(Ends(), TinyData(5), TinyData(2))
    names = [set(values) for _, values in display.finished]
    of_epoch, with_val = {"loss", "whole"}, {"loss", "whole", "val"}
    expected = {"error": [with_val, {"loss"}], "stop": [with_val, of_epoch]}
    assert names == expected.get(ends, [of_epoch, of_epoch, with_val, of_epoch])


class Scheduled(Logs):
    """Two groups of parameters, whose rates a scheduler halves with each epoch."""

    def configure_optimizers(self):
        one, two = self.parameters()
        optimizer = torch.optim.SGD([{"params": [one], "name": "a"}, {"params": [two], "lr": 2.0, "name": "b"}], lr=4.0)
        return [optimizer], [torch.optim.lr_scheduler.StepLR(optimizer, 1, 0.5)]


def test_the_rates_that_schedulers_set_are_shown_by_the_names_of_their_groups(display):
    trainer_with().fit(Scheduled(), TinyData(2))
    assert display.shown[1][1] == {"loss": 0, "lr/a": 4, "lr/b": 2}
    assert display.finished[0][1] == {"loss": 1, "lr/a": 4, "lr/b": 2}  # those of its last update


class Falls(Logs):
    """The rates of two optimizers fall with each update, and are 0 behind the sixth."""

    def configure_optimizers(self):
        one, two = self.parameters()
        pair = [torch.optim.SGD([one], lr=6.0), torch.optim.SGD([two], lr=torch.tensor(12.0))]
        schedules = [torch.optim.lr_scheduler.LambdaLR(each, lambda step: 1 - step / 6) for each in pair]
        return [JointOptimizer(*pair)], [{"scheduler": each, "interval": "step"} for each in schedules]


@pytest.mark.parametrize(
    ("arguments", "rates"),
    [
        ({"max_epochs": 2}, [(4, 8), (1, 2)]),
        ({"max_epochs": 2, "accumulate_grad_batches": 2}, [(5, 10), (3, 6)]),
        ({"max_epochs": 2, "max_steps": 5}, [(4, 8), (2, 4)]),
    ],
)
@pytest.mark.parametrize("num_val_batches", [0, 1])
def test_the_line_of_an_epoch_has_the_rates_of_its_last_update(display, arguments, rates, num_val_batches):
    trainer_with(**arguments).fit(Falls(), TinyData(3), TinyData(num_val_batches) if num_val_batches else None)
    lines = [(values["lr/SGD"], values["lr/SGD-1"]) for _, values in display.finished]
    assert lines == [pytest.approx(pair) for pair in rates]
    begins = [values for bars, values in display.shown if bars[-1][:2] == ("Epoch 2/2", 0)]
    assert [values["lr/SGD"] for values in begins] == [pytest.approx(rates[0][0] - 1)]  # of the update to come


def test_rates_are_left_out_where_nothing_moves_them_or_they_are_not_wanted(display):
    trainer_with().fit(Logs(), TinyData(1))
    trainer_with(ProgressBar(show_lr=False)).fit(Scheduled(), TinyData(1))
    assert [set(values) for _, values in display.finished] == [{"loss"}, {"loss"}]


def test_a_value_that_is_logged_under_the_name_of_a_rate_is_the_one_shown(display):
    class Own(Scheduled):
        def training_step(self, batch, batch_idx):
            self.log("lr/a", 7.0, prog_bar=True)
            return self.loss(batch)

    trainer_with().fit(Own(), TinyData(1))
    assert display.finished[0][1] == {"lr/a": 7, "lr/b": 2}
