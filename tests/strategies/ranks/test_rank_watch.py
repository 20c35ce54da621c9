"""Ranks that wait for what never comes are told who waits where; here without a second process."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any

import pytest
from torch.distributed import HashStore, PrefixStore

from trainkit.errors import RankError
from trainkit.strategies.ranks import rank_watch
from trainkit.strategies.ranks.rank_watch import RankWatch, wait_for

LONG = timedelta(seconds=60)


def elsewhere(function: Callable[..., Any], *arguments: Any) -> Any:
    with ThreadPoolExecutor() as pool:
        return pool.submit(function, *arguments).result()


@pytest.fixture(autouse=True)
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rank_watch, "TICK_S", 0.01)
    monkeypatch.setattr(rank_watch, "STILL_S", 0.1)


@pytest.fixture
def store() -> HashStore:
    return HashStore()


@pytest.fixture
def watches(store: HashStore) -> Iterator[list[RankWatch]]:
    # The second one looks at a thread that has ended: it is busy, unless a test says that it waits.
    made = [RankWatch(0, 2, PrefixStore("watch", store)), elsewhere(RankWatch, 1, 2, PrefixStore("watch", store))]
    made[0].begin_call("fit")
    elsewhere(made[1].begin_call, "fit")
    yield made
    for watch in made:
        watch.close()


def test_ranks_that_wait_for_different_things_are_told_where_each_is(store: HashStore, watches: list[RankWatch]):
    first, second = watches
    with (
        second.waiting("saving", "its plugin has saved"),
        pytest.raises(
            RankError, match=r"(?s)wait for each other.*rank 0 .*rank 1 .*: its plugin has saved\n    to do "
        ),
    ):
        wait_for(store, ["never"], first, "logging", LONG)


def test_a_rank_that_has_left_the_call_ends_the_wait_for_it(store: HashStore, watches: list[RankWatch]):
    first, second = watches
    second.leave_call("has left trainer.fit(): ValueError: no")
    with pytest.raises(RankError, match=r"(?s)rank 0 .*nobody will come.\n    rank 1 .*ValueError: no"):
        wait_for(store, ["never"], first, "logging", LONG)


def test_between_calls_only_the_end_of_a_program_ends_a_wait(store: HashStore, watches: list[RankWatch]):
    first, second = watches
    for watch in watches:
        watch.leave_call("has ended trainer.fit()")
    second.close()
    with pytest.raises(RankError, match="its program has ended"):
        wait_for(store, ["never"], first, "saving", LONG)


def test_a_rank_that_is_busy_is_waited_for_until_time_is_up(store: HashStore, watches: list[RankWatch]):
    first, second = watches
    with pytest.raises(RankError, match="rank 0 has waited 0.5 s in logging"):
        wait_for(store, ["never"], first, "logging", timedelta(seconds=0.5))
    assert second.verdict == ""


def test_a_rank_may_come_as_long_as_it_is_busy_and_patience_lasts(store: HashStore, watches: list[RankWatch]):
    first, second = watches
    with pytest.raises(RankError, match="has waited 0.5 s"):
        wait_for(store, ["never"], first, "logging", timedelta(seconds=0.5))
    assert first.may_come(20.0)
    assert not first.may_come(rank_watch.LONG_PATIENCE_S)
    second.leave_call("has left trainer.fit()")
    with pytest.raises(RankError):
        wait_for(store, ["never"], first, "logging", LONG)
    assert not first.may_come(20.0)


def test_what_comes_ends_a_wait(store: HashStore, watches: list[RankWatch]):
    store.set("here", "value")
    wait_for(store, ["here"], watches[0], "logging", LONG)


def test_an_exchange_of_all_may_take_long(store: HashStore, watches: list[RankWatch]):
    first, second = watches
    with second.waiting("logging"), pytest.raises(RankError, match=r"has waited 0.5 s"):
        wait_for(store, ["never"], first, "logging", timedelta(seconds=0.5))
