from __future__ import annotations

from collections.abc import Generator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.clock import Clock
from trainkit.hooks import stopwatch
from trainkit.hooks.stopwatch import Spent, Stopwatch


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(stopwatch, "perf_counter", clock)
    return clock


def works(clock: Clock, seconds: float, *then: Any) -> Any:
    def work() -> None:
        clock.now += seconds
        for each in then:
            each()

    return work


def test_what_runs_within_is_charged_to_itself_alone(clock: Clock) -> None:
    watch, outer, inner = Stopwatch(), Spent(), Spent()
    timed = watch.timed(works(clock, 2.0), inner)
    watch.timed(works(clock, 1.0, timed, timed), outer)()
    assert (outer.calls, outer.seconds, inner.calls, inner.seconds) == (1, 1.0, 2, 4.0)


def test_what_raises_is_charged_and_raises(clock: Clock) -> None:
    watch, spent = Stopwatch(), Spent()

    def fails() -> None:
        clock.now += 3.0
        raise LookupError

    with pytest.raises(LookupError):
        watch.timed(fails, spent)()
    assert (spent.calls, spent.seconds) == (1, 3.0)


def test_a_stretch_ends_with_all_that_has_begun_in_it(clock: Clock) -> None:
    watch, outer, inner = Stopwatch(), Spent(), Spent()
    watch.begin(outer)
    clock.now += 1.0
    watch.begin(inner)
    clock.now += 2.0
    watch.end(outer)
    assert (outer.seconds, inner.seconds) == (1.0, 2.0)
    watch.end(inner)  # it has ended
    assert inner.calls == 1


def test_only_what_is_sampled_is_listed(clock: Clock) -> None:
    watch, always, sampled = Stopwatch(), Spent(), Spent()
    watch.timed(works(clock, 1.0), always)()
    watch.timed(works(clock, 1.0), sampled, sampled=True)()
    assert watch.sampled == [(sampled, 1, 1.0)]
    watch.clear()
    assert watch.sampled == []


def test_what_was_measured_stands_for_others_that_were_as_slow() -> None:
    spent = Spent(calls=3, seconds=9.0)
    spent.stand_for(9.0, 1, 2.0)
    spent.stand_for(1.0, 1, 5.0, slow=4)
    spent.stand_for(2.0, 1, 1.0, slow=4)
    assert (spent.more_calls, spent.more_seconds, spent.in_slow) == (9.0, 18.0, {4: (3.0, 7.0)})
    spent.clear()
    assert spent == Spent()


def test_what_has_begun_within_a_stretch_ends_without_it(clock: Clock) -> None:
    watch, outer, inner = Stopwatch(), Spent(), Spent()
    watch.end_within(outer)  # it has not begun
    watch.begin(outer)
    watch.begin(inner)
    clock.now += 2.0
    watch.end_within(outer)
    assert (inner.seconds, outer.calls, watch.inner_s) == (2.0, 0, 2.0)
    clock.now += 1.0
    watch.end(outer)
    assert outer.seconds == 1.0


def test_a_generator_is_timed_where_it_runs_and_counts_once(clock: Clock) -> None:
    watch, spent = Stopwatch(), Spent()

    def around() -> Generator[None, Any, Any]:
        clock.now += 1.0
        result = yield
        clock.now += 2.0
        return result

    generator = watch.timed_generator(around, spent, sampled=True)()
    next(generator)
    clock.now += 100.0
    with pytest.raises(StopIteration, match="result"):
        generator.send("result")
    assert (spent.calls, spent.seconds) == (1, 3.0)
    assert sum(calls for _, calls, _ in watch.sampled) == 1 and sum(took for *_, took in watch.sampled) == 3.0


def test_a_generator_into_which_an_error_is_thrown_raises_it(clock: Clock) -> None:
    watch, spent = Stopwatch(), Spent()

    def around() -> Generator[None, Any, Any]:
        yield

    generator = watch.timed_generator(around, spent, sampled=False)()
    next(generator)
    with pytest.raises(LookupError):
        generator.throw(LookupError())
    generator.close()
    assert spent.calls == 1


def test_clear_forgets_what_was_never_ended(clock: Clock) -> None:
    watch, spent = Stopwatch(), Spent()
    watch.begin(spent)
    clock.now += 5.0
    watch.clear()
    watch.end(spent)
    assert spent == Spent()


TREES = st.recursive(
    st.tuples(st.integers(1, 5), st.just(())), lambda below: st.tuples(st.integers(1, 5), st.lists(below, max_size=3))
)


@given(tree=TREES)
def test_every_moment_is_charged_once(tree: Any) -> None:
    clock, watch, all_spent = Clock(), Stopwatch(), []

    def run(node: Any) -> None:
        seconds, below = node
        own = Spent()
        all_spent.append((own, seconds))

        def work() -> None:
            clock.now += seconds
            for each in below:
                run(each)

        if seconds % 2:
            watch.timed(work, own)()
        else:
            watch.begin(own)
            work()
            watch.end(own)

    before = stopwatch.perf_counter
    stopwatch.perf_counter = clock  # type: ignore[assignment]
    try:
        run(tree)
    finally:
        stopwatch.perf_counter = before
    assert [spent.seconds for spent, _ in all_spent] == [seconds for _, seconds in all_spent]
