from __future__ import annotations

import threading
import time
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trainkit.loggers.outbox import Outbox


@pytest.mark.parametrize("most", [1, 3, 1000])
def test_all_items_arrive_in_their_order(most: int) -> None:
    sent: list[Any] = []
    outbox = Outbox(sent.append, most=most)
    for number in range(500):
        outbox.put({"number": number})
    assert outbox.finish(30) == []
    assert sent == [{"number": number} for number in range(500)]
    outbox.put("again")
    assert outbox.finish(30) == [] and sent[-1] == "again"


def test_nobody_waits_for_one_who_is_slow_and_memory_is_bounded() -> None:
    gate, sent = threading.Event(), []

    def send(item: Any) -> None:
        gate.wait()
        sent.append(item)

    outbox = Outbox(send, most=4)
    for number in range(100):
        outbox.put(number)
    assert sent == [] and len(outbox._waiting) <= 4
    gate.set()
    assert outbox.finish(30) == []
    assert sent == list(range(100))


@settings(max_examples=15, deadline=None)
@given(failures=st.sets(st.integers(0, 30), max_size=12), most=st.integers(1, 8))
def test_what_fails_is_tried_again_ahead_of_all_others(failures: set[int], most: int) -> None:
    calls, sent = 0, []

    def send(item: int) -> None:
        nonlocal calls
        calls += 1
        if calls - 1 in failures:
            raise ConnectionError("away")
        sent.append(item)

    outbox = Outbox(send, most=most)
    for number in range(20):
        outbox.put(number)
    assert outbox.finish(60) == []
    assert sent == list(range(20))
    assert outbox.problem in ("", "ConnectionError: away")
    assert bool(outbox.problem) == bool(failures & set(range(calls)))


def test_what_cannot_be_sent_comes_back_whole_and_in_order() -> None:
    def send(item: Any) -> None:
        raise OSError("no network")

    outbox = Outbox(send, most=2)
    for number in range(10):
        outbox.put(number)
    assert outbox.finish(0.2) == list(range(10))
    assert outbox.problem == "OSError: no network"


def test_one_who_never_answers_is_not_waited_for() -> None:
    began = threading.Event()

    def send(item: Any) -> None:
        began.set()
        time.sleep(3600)

    outbox = Outbox(send)
    outbox.put(1)
    outbox.put(2)
    began.wait()
    assert outbox.finish(0.1) == [1, 2]
