from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from trainkit.callbacks import EarlyStopping
from trainkit.callbacks.builtin import fit_report, forecast
from trainkit.callbacks.builtin.fit_figures import Figures
from trainkit.callbacks.builtin.forecast import BATCHES, FirstBatches, Forecast, batches_left, validations_left
from trainkit.testing import TinyData, TinyModule, quiet_trainer


class Clock:
    """Time that passes only when somebody says so."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


class Slow(TinyModule):
    """Takes so many seconds for a batch, a validation batch, and the end of an epoch; ten times as many at first."""

    def __init__(self, clock: Clock, batch_s: float, validation_s: float = 0.0, epoch_s: float = 0.0) -> None:
        super().__init__()
        self.clock, self.took = clock, (batch_s, validation_s, epoch_s)

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        self.clock.now += self.took[0] * (10 if self.global_step == 0 else 1)
        return super().training_step(batch, batch_idx)

    def validation_step(self, batch: Any, batch_idx: int) -> Any:
        self.clock.now += self.took[1]

    def on_train_epoch_end(self) -> None:
        self.clock.now += self.took[2]


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(fit_report, "monotonic", clock)
    monkeypatch.setattr(fit_report, "Forecast", lambda trainer, figures, say: Forecast(trainer, figures, say, clock))
    monkeypatch.setattr(forecast, "peak_bytes", lambda device: 10**9 + int(clock.now * 10**6))
    return clock


def told(capsys: Any, clock: Clock, module: TinyModule, data: Any, val: Any = None, **arguments: Any) -> list[str]:
    """Return what is foretold, and how far off it was, in a fit whose bar is shown."""
    common = {"num_sanity_val_steps": 0, "enable_progress_bar": True, "max_epochs": 1} | arguments
    quiet_trainer(**common).fit(module, data, val)
    lines = capsys.readouterr().out.splitlines()
    return [line for line in lines if "to go" in line or "foretold" in line or "batches/s; peak" in line]


def test_after_some_batches_the_time_to_the_end_is_told_and_at_the_end_how_far_off_it_was(
    capsys: pytest.CaptureFixture[str], clock: Clock
) -> None:
    lines = told(capsys, clock, Slow(clock, 1.0, 1.0, epoch_s=20.0), TinyData(121), TinyData(10))
    # The first batch, of ten seconds, is left out; of the end of an epoch nobody knows, and a validation is guessed.
    assert lines == [
        "trainkit: about 1:43 to go: 100 batches, 1 validation; peak memory 1.03 GB",
        "  foretold  1:43, took 2:10: 26 % more; memory 1.03 GB, was 1.16 GB: 13 % more",
    ]


def test_a_short_epoch_is_watched_to_its_end_and_counts_as_it_was(
    capsys: pytest.CaptureFixture[str], clock: Clock
) -> None:
    module = Slow(clock, 0.1, 0.5, epoch_s=3.0)
    lines = told(capsys, clock, module, TinyData(31), TinyData(2), max_epochs=5)
    first, last = lines
    # 4 epochs of 31 batches: 3 s of them in batches, 1 s in a validation and 3 s at the end, which 30 batches share.
    assert first.startswith("trainkit: about 0:29 to go: 124 batches, 4 validations; ")
    assert last.startswith("  foretold  0:29, took 0:28: 1 % less")


def test_epochs_of_fewer_batches_than_are_watched_are_watched_too(
    capsys: pytest.CaptureFixture[str], clock: Clock
) -> None:
    lines = told(capsys, clock, Slow(clock, 1.0), TinyData(4), max_epochs=20)
    assert lines[0].startswith("trainkit: about 0:56 to go: 56 batches; ")
    assert lines[1].startswith("  foretold  0:56, took 0:56; memory")


def test_a_run_that_is_short_or_over_early_tells_nothing(capsys: pytest.CaptureFixture[str], clock: Clock) -> None:
    assert told(capsys, clock, Slow(clock, 100.0), TinyData(BATCHES)) == []
    assert told(capsys, clock, Slow(clock, 0.001), TinyData(BATCHES * 9)) == []


def test_without_a_known_end_only_rate_and_memory_are_told(capsys: pytest.CaptureFixture[str], clock: Clock) -> None:
    class Stops:
        def on_train_batch_end(self, trainer: Any) -> None:
            trainer.should_stop = trainer.global_step == 50

    lines = told(capsys, clock, Slow(clock, 1.0), TinyData(30), max_epochs=-1, callbacks=[Stops()])
    assert lines == ["trainkit: 1.00 batches/s; peak memory 1.03 GB"]


def test_a_limit_of_time_is_known(capsys: pytest.CaptureFixture[str], clock: Clock) -> None:
    lines = told(capsys, clock, Slow(clock, 10.0), TinyData(60), max_epochs=9, max_time="00:00:01:00")
    assert lines[0].startswith("trainkit: about 1:00 to go: 519 batches")


def test_early_stopping_makes_it_the_most(capsys: pytest.CaptureFixture[str], clock: Clock) -> None:
    class Logs(Slow):
        def validation_step(self, batch: Any, batch_idx: int) -> None:
            self.log("val/loss", -float(self.current_epoch))

    stopper = EarlyStopping("val/loss")
    lines = told(capsys, clock, Logs(clock, 1.0), TinyData(60), TinyData(1), max_epochs=3, callbacks=[stopper])
    assert lines[0].startswith("trainkit: at most 2:40 to go")


def test_of_a_fit_that_was_stopped_no_outcome_is_told(capsys: pytest.CaptureFixture[str], clock: Clock) -> None:
    class Stops:
        def on_train_batch_end(self, trainer: Any) -> None:
            trainer.should_stop = trainer.global_step == 50

    lines = told(capsys, clock, Slow(clock, 1.0), TinyData(90), callbacks=[Stops()])
    assert len(lines) == 1 and "to go: " in lines[0]


def test_behind_the_first_batches_the_loop_is_as_without_it(clock: Clock) -> None:
    joined = []

    class Looks:
        def on_train_batch_start(self, trainer: Any) -> None:
            joined.append(FirstBatches.name in trainer.hooks.order("on_train_batch_end"))

    quiet_trainer(max_epochs=1, enable_progress_bar=True, callbacks=[Looks()]).fit(Slow(clock, 1.0), TinyData(40))
    assert joined == [True] * (BATCHES + 1) + [False] * (40 - BATCHES - 1)


@pytest.mark.parametrize("fails", [True, False])
def test_a_fit_that_ends_before_leaves_nothing_behind(clock: Clock, fails: bool) -> None:
    class Fails(TinyModule):
        def training_step(self, batch: Any, batch_idx: int) -> Any:
            if fails:
                raise LookupError
            return super().training_step(batch, batch_idx)

    trainer = quiet_trainer(max_epochs=1, enable_progress_bar=True)
    try:
        trainer.fit(Fails(), TinyData(3))
    except LookupError:
        assert fails
    assert FirstBatches.name not in dict(trainer.hooks.plugins)


def test_where_no_bar_is_shown_nobody_watches() -> None:
    trainer = quiet_trainer(max_epochs=1)
    seen = []

    class Looks:
        def on_train_batch_start(self) -> None:
            seen.extend(name for name, _ in trainer.hooks.plugins if name == FirstBatches.name)

    trainer.hooks.register(Looks())
    trainer.fit(TinyModule(), TinyData(2))
    assert seen == []


class Counts:
    """Notes how many batches and validations are foreseen behind some batch, and counts them from there on."""

    stage = "persist"

    def __init__(self, at: int) -> None:
        self.at, self.batches, self.validations = at, 0, 0
        self.foreseen: tuple[float, float] | None = None

    def on_train_batch_end(self, trainer: Any) -> None:
        self.batches += self.foreseen is not None
        if trainer.progress.total_batches == self.at:
            left = batches_left(trainer.fit_run, trainer.num_training_batches)
            self.foreseen = left, validations_left(trainer.fit_run, left, trainer.num_training_batches)

    def on_validation_start(self) -> None:
        self.validations += self.foreseen is not None


@pytest.mark.filterwarnings("ignore")  # of settings that make no sense together
@settings(deadline=None, max_examples=40)
@given(
    per_epoch=st.integers(1, 9),
    epochs=st.integers(1, 5),
    at=st.integers(1, 30),
    max_steps=st.just(-1) | st.integers(1, 30),
    accumulate=st.integers(1, 3),
    every=st.sampled_from([1.0, 2, "3 batches", "2 steps", "1 epochs"]),
    n_epochs=st.integers(1, 2),
)
def test_as_many_batches_and_validations_come_as_were_foreseen(
    per_epoch: int, epochs: int, at: int, max_steps: int, accumulate: int, every: Any, n_epochs: int
) -> None:
    assume(not isinstance(every, int) or every <= per_epoch)
    counts = Counts(at)
    trainer = quiet_trainer(
        max_epochs=epochs,
        max_steps=max_steps,
        accumulate_grad_batches=accumulate,
        val_check_interval=every,
        check_val_every_n_epoch=1 if isinstance(every, str) else n_epochs,
        callbacks=[counts],
    )
    trainer.fit(TinyModule(), TinyData(per_epoch), TinyData(1))
    assume(counts.foreseen is not None)
    assert counts.foreseen is not None
    batches, validations = counts.foreseen
    # A last group may be short, and one that is open needs less than a whole; one that stops validates once more.
    slack = accumulate * (1 + epochs) if max_steps != -1 and accumulate > 1 else 0
    assert abs(batches - counts.batches) <= slack
    if not slack:
        most = 1 + (epochs if isinstance(every, int) else 0) + accumulate
        assert abs(validations - counts.validations) <= most


def test_where_nobody_knows_it_is_infinite() -> None:
    counts = Counts(1)
    trainer = quiet_trainer(max_epochs=-1, max_steps=-1, val_check_interval="2 batches", callbacks=[counts])

    class Stops(TinyModule):
        def on_train_batch_end(self) -> None:
            self.trainer.should_stop = True

    trainer.fit(Stops(), TinyData(3), TinyData(1))
    assert counts.foreseen == (math.inf, math.inf)


def test_the_peak_of_memory_is_of_the_device_that_computes(monkeypatch: pytest.MonkeyPatch) -> None:
    assert forecast.peak_bytes(torch.device("cpu")) > 10**7
    monkeypatch.setattr(torch.cuda, "max_memory_allocated", lambda device: 5)
    assert forecast.peak_bytes(torch.device("cuda")) == 5


def test_nothing_is_told_of_what_took_no_time() -> None:
    trainer = quiet_trainer(max_epochs=1)
    trainer.fit(TinyModule(), TinyData(2))
    lines: list[str] = []
    still = Forecast(trainer, Figures(0.0, 0, 0), lines.append, clock=lambda: 0.0)
    still.first_batch()
    still.some_batches()
    assert (lines, still.outcome()) == ([], "")
