"""What one process does between two batches; several agree in tests/strategies/ranks/test_rank_group.py."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from types import SimpleNamespace
from typing import Any

import pytest
from torch.distributed import HashStore, PrefixStore

from trainkit.loops.agreement import Agreement, Wishes
from trainkit.loops.stop import StopSignal
from trainkit.progress import Progress
from trainkit.strategies import SingleDevice
from trainkit.strategies.ranks.meeting import Meeting
from trainkit.strategies.ranks.rank_watch import RankWatch


def test_one_process_follows_its_own_wishes():
    stop_signal = StopSignal()
    agreement = Agreement(SingleDevice("cpu"), Progress(), stop_signal)
    assert agreement.settle() == Wishes()
    stop_signal.ask(by="a plugin")
    assert agreement.settle(time_up=True) == Wishes(stop=True, stop_by="a plugin", time_up=True)
    stop_signal.received = signal.SIGTERM
    assert agreement.settle_in_evaluation(0).signal == signal.SIGTERM
    assert not agreement.is_called


@pytest.fixture
def met() -> Iterator[tuple[Agreement, StopSignal, Meeting]]:
    """The agreement of rank 0 of two, and the meeting of rank 1."""
    store = HashStore()
    watches = [RankWatch(rank, 2, PrefixStore("watch", store)) for rank in range(2)]
    meetings = [
        Meeting(rank, 2, PrefixStore("meet", store), watch, timedelta(seconds=60)) for rank, watch in enumerate(watches)
    ]
    strategy: Any = SimpleNamespace(is_distributed=True, ranks=SimpleNamespace(meeting=meetings[0]))
    stop_signal = StopSignal()
    yield Agreement(strategy, Progress(total_batches=4, validation_batch=2), stop_signal), stop_signal, meetings[1]
    for watch in watches:
        watch.close()


def test_the_wish_of_another_rank_is_followed_and_kept(met: tuple[Agreement, StopSignal, Meeting]):
    agreement, stop_signal, other = met
    wishes = Wishes(stop=True, stop_by="a plugin", validate=True)

    def meet() -> None:
        times = 1
        while other.come((4, times), wishes._asdict()) is None:
            times += 1

    with ThreadPoolExecutor() as pool:
        waiting = pool.submit(meet)
        while not agreement.settle().stop:
            pass
        waiting.result()
    assert (stop_signal.asked, stop_signal.asked_by) == (True, "a plugin")
    assert agreement.settle().validate
    agreement.validated()
    assert agreement.settle() == Wishes(stop=True, stop_by="a plugin")


def test_clocks_that_come_to_something_are_agreed_on_once(met: tuple[Agreement, StopSignal, Meeting]):
    agreement, _, other = met

    def meet() -> None:
        times = 1
        while other.come((4, times), Wishes(times={"rows": 7.5})._asdict()) is None:
            times += 1

    assert agreement.time_of("saves", None) is None
    with ThreadPoolExecutor() as pool:
        waiting = pool.submit(meet)
        while (found := agreement.time_of("rows", 7.25)) is None:
            pass
        waiting.result()
    assert found == 7.5
    assert agreement.time_of("rows", None) is None


def test_what_is_agreed_on_is_no_news():
    agreed = Wishes(stop=True, times={"rows": 1.0})
    assert not Wishes(stop=True, times={"rows": 2.0}).has_news(agreed)
    assert Wishes(times={"saves": 2.0}).has_news(agreed)
    assert agreed.joined(Wishes(times={"rows": 3.0, "saves": 2.0})).times == {"rows": 3.0, "saves": 2.0}
