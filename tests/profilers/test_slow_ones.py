from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any
from unittest.mock import patch

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trainkit.hooks import stopwatch
from trainkit.profilers import sampled_steps, slow_ones
from trainkit.profilers.ledger import Ledger
from trainkit.profilers.slow_ones import COST_S, NEWEST, SLOW, SlowOnes
from trainkit.testing import TinyData, TinyModule, quiet_trainer

SHARES = ("waiting for data", "forward", "callbacks")


class Clock:
    """Time that passes only when somebody says so."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


class Work:
    """A fit whose parts take a millisecond each, and longer in some steps.

    Args:
        stalls: Seconds that something takes beyond that, by its share and the step.
        per_epoch: Batches of an epoch.
        has_length: Whether the loader knows it.
    """

    def __init__(self, stalls: dict[tuple[str, int], float], per_epoch: int, has_length: bool = True) -> None:
        self.clock = clock = Clock()
        self.truth = dict.fromkeys(SHARES, 0.0)
        self.per_epoch = per_epoch
        seen = dict.fromkeys(SHARES, 0)

        def work(share: str) -> None:
            took_s = 1e-3 + stalls.get((share, seen[share]), 0.0)
            seen[share] += 1
            clock.now += took_s
            self.truth[share] += took_s

        class Data(TinyData):
            def __iter__(self) -> Iterator[Any]:
                for batch in super().__iter__():
                    work("waiting for data")
                    yield batch

            def __len__(self) -> int:
                if not has_length:
                    raise TypeError("nobody knows")
                return super().__len__()

        class Module(TinyModule):
            def training_step(self, batch: Any, batch_idx: int) -> Any:
                work("forward")
                return super().training_step(batch, batch_idx)

        class Acts:
            def on_train_batch_end(self) -> None:
                work("callbacks")

        self.parts = Module(), Data(per_epoch), Acts()

    def ledger(self, epochs: int) -> Ledger:
        module, data, acts = self.parts
        trainer = quiet_trainer(max_epochs=epochs, profiler="simple", callbacks=[acts])
        with ExitStack() as stack:
            for where in (stopwatch, sampled_steps, slow_ones):
                stack.enter_context(patch.object(where, "perf_counter", self.clock))
            trainer.fit(module, data)
        assert trainer.timing is not None
        return trainer.timing


PLACES = st.one_of(
    # at equal distances, from some step on
    st.builds(lambda first, every: range(first, 400, every), st.integers(0, 60), st.integers(7, 90)),
    st.sets(st.integers(0, 399), max_size=15),
)


@settings(deadline=None, max_examples=25)
@given(
    places=st.dictionaries(st.sampled_from(SHARES), PLACES),
    stall_s=st.floats(0.05, 0.5),
    per_epoch=st.sampled_from([400, 100, 57]),
    has_length=st.booleans(),
)
def test_what_is_slow_now_and_then_is_told_where_it_belongs_or_as_unexplained(
    places: dict[str, Any], stall_s: float, per_epoch: int, has_length: bool
) -> None:
    stalls = {(share, step): stall_s for share, steps in places.items() for step in steps}
    work = Work(stalls, per_epoch, has_length)
    ledger = work.ledger(400 // per_epoch)
    told = {share: ledger.seconds_of(share) for share in (*SHARES, "slow steps")}
    assert sum(told.values()) == pytest.approx(work.clock.now) == pytest.approx(ledger.seconds)
    assert told["waiting for data"] == pytest.approx(work.truth["waiting for data"])
    for share in ("forward", "callbacks"):
        # The tolerance is what usual steps differ by; a stall is never told as something else.
        assert told[share] <= work.truth[share] + 0.02
    assert (told["slow steps"] > 1e-6) is (ledger.slow_steps > 0)
    if not stalls:
        assert ledger.slow_steps == 0


@pytest.mark.parametrize("every", [20, 50, 64])
def test_what_recurs_is_foreseen_and_measured(every: int) -> None:
    work = Work({("callbacks", step): 0.3 for step in range(every - 1, 1200, every)}, per_epoch=400)
    ledger = work.ledger(3)
    # All but the few by which it was learned.
    assert ledger.seconds_of("callbacks") > work.truth["callbacks"] - 4 * 0.3
    assert ledger.slow_steps <= 4
    assert ledger.measured_steps < 300


def test_steps_that_are_often_slow_are_divided_as_those_that_were_measured() -> None:
    # Every third one, as where gradients are accumulated: too many to measure each.
    work = Work({("callbacks", step): 0.006 for step in range(0, 6000, 3)}, per_epoch=6000)
    ledger = work.ledger(1)
    assert ledger.slow_steps == 0 and ledger.measured_steps < 2000
    assert ledger.seconds_of("callbacks") == pytest.approx(work.truth["callbacks"], rel=0.02)
    assert ledger.seconds_of("forward") == pytest.approx(work.truth["forward"], rel=0.05)
    (row,) = [row for row in ledger.rows if row.plugin == "Acts"]
    assert row.calls == pytest.approx(6000, rel=0.02)


def test_a_step_that_fails_is_no_step() -> None:
    for fails_at in (3, 25, 80):

        class Fails:
            def on_train_batch_start(self, trainer: Any, fails_at: int = fails_at) -> None:
                if trainer.progress.total_batches == fails_at:
                    raise LookupError

        trainer = quiet_trainer(max_epochs=1, profiler="simple", callbacks=[Fails()])
        with pytest.raises(LookupError):
            trainer.fit(TinyModule(), TinyData(100))
        assert trainer.timing is not None and trainer.timing.steps == fails_at
        assert trainer.timing.measured_steps <= fails_at


@given(took=st.lists(st.floats(1e-6, 1.0), min_size=1, max_size=NEWEST), factor=st.floats(1.01, 1e4))
def test_a_step_is_slow_beyond_some_usual_ones(took: list[float], factor: float) -> None:
    slow = SlowOnes()
    assert slow.how_slow(1e9) == 0  # nobody knows yet
    for each in took:
        slow.learn(each)
    assert sorted(took)[(len(took) - 1) // 2] <= slow.usual_s <= sorted(took)[len(took) // 2]
    assert slow.how_slow(slow.usual_s * SLOW) == 0
    assert slow.how_slow(slow.usual_s * SLOW * factor) > 0
    assert slow.how_slow(slow.limit_s * factor * 4) == slow.how_slow(slow.limit_s * factor) + 2


def test_no_more_are_foreseen_than_it_is_worth(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock()
    monkeypatch.setattr(slow_ones, "perf_counter", clock)
    slow = SlowOnes()
    slow.add(10, 1.0)
    slow.add(20, 1.0)
    assert slow.foreseen(20) == math.inf  # no time has passed
    clock.now = 10.0
    slow.add(35, 1.0)
    assert (slow.foreseen(35), slow.foreseen(50)) == (50, 60)
    clock.now = 1e6  # all in all these are nothing now
    slow.add(70, 1.0)
    assert slow.foreseen(70) == math.inf
    assert COST_S > 0
