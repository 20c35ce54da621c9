"""All ranks do at the same batch what one has asked for; here in threads, with a store of one process."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest
from torch.distributed import HashStore, PrefixStore

from trainkit.strategies.ranks import rank_watch
from trainkit.strategies.ranks.meeting import Meeting, Position
from trainkit.strategies.ranks.rank_watch import RankWatch

LONG = timedelta(seconds=60)


@pytest.fixture
def ranks(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[tuple[Meeting, RankWatch]]]:
    monkeypatch.setattr(rank_watch, "TICK_S", 0.01)
    store = HashStore()
    watches = [RankWatch(rank, 2, PrefixStore("watch", store)) for rank in range(2)]
    yield [(Meeting(rank, 2, PrefixStore("meet", store), watch, LONG), watch) for rank, watch in enumerate(watches)]
    for watch in watches:
        watch.close()


def train(meeting: Meeting, start: int, *, asks: bool = False) -> Callable[[], tuple[int, list[int]]]:
    """Return a function that goes from boundary to boundary until the ranks meet, and tells where and for what."""

    def run() -> tuple[int, list[int]]:
        batch = start
        while True:
            if meeting.called or asks:
                met = meeting.come((batch, 1), {"asks": int(asks)})
                if met is not None:
                    return batch, [wishes.get("asks", 0) for wishes in met.wishes]
            batch += 1

    return run


def together(*functions: Callable[[], tuple[int, list[int]]]) -> list[tuple[int, list[int]]]:
    with ThreadPoolExecutor() as pool:
        return [each.result(timeout=60) for each in [pool.submit(function) for function in functions]]


def test_ranks_that_ask_at_the_same_place_meet_there(ranks):
    (first, _), (second, _) = ranks
    assert together(train(first, 3, asks=True), train(second, 3, asks=True)) == [(3, [1, 1])] * 2


def test_who_is_behind_goes_on_to_where_the_others_are(ranks):
    (first, _), (second, _) = ranks
    assert together(train(first, 3, asks=True), train(second, 5, asks=True)) == [(5, [1, 1])] * 2


def test_a_rank_that_did_not_ask_hears_of_it_and_both_meet_at_the_same_place(ranks):
    (first, _), (second, _) = ranks
    one, other = together(train(first, 3, asks=True), train(second, 3))
    assert one == other
    assert one[1] == [1, 0]


def test_for_a_rank_that_waits_its_thread_answers(ranks):
    (first, _), (second, watch) = ranks
    watch.position = lambda: 7
    with watch.waiting("its gradients"):
        (place, wishes), *_ = together(train(first, 3, asks=True))
    assert (place, wishes) == (8, [1, 0])  # the end of the batch that the other rank is in
    assert second.come((8, 1), {}) is not None


def test_who_is_at_the_end_of_a_loader_meets_those_who_have_more(ranks):
    (first, _), (second, _) = ranks

    def evaluated(meeting: Meeting, at: Position, *, is_end: bool) -> Callable[[], tuple[int, list[int]]]:
        def run() -> tuple[int, list[int]]:
            met = meeting.come(at, {}, is_end=is_end)
            return (0, []) if met is None else (met.position[-1], [])

        return run

    ended, going_on = (evaluated(first, (3, 1, 1, 4), is_end=True), evaluated(second, (3, 1, 1, 6), is_end=False))
    assert together(ended, going_on) == [(6, [])] * 2


def test_ranks_meet_again_and_again(ranks):
    (first, _), (second, _) = ranks
    for start in (1, 4, 9):
        assert together(train(first, start, asks=True), train(second, start, asks=True)) == [(start, [1, 1])] * 2
    assert not first.called and not second.called
