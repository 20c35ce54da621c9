from __future__ import annotations

import pytest
import torch

from trainkit.callbacks.progress_bar.async_values import AsyncValues


class Elsewhere:
    """A tensor of a device whose copies arrive when the test says so."""

    def __init__(self, value):
        self.device = torch.device("cuda")
        self.value = value

    def to(self, device, non_blocking):
        assert (device, non_blocking) == ("cpu", True)
        return torch.tensor(self.value)


class Queue:
    """Stands for `torch.Event`: says whether a busy device has come so far."""

    is_done = False

    def __init__(self, device):
        pass

    def record(self, stream):
        pass

    def query(self):
        return self.is_done


@pytest.fixture
def queue(monkeypatch):
    monkeypatch.setattr(torch, "Event", Queue)
    monkeypatch.setattr(torch.accelerator, "current_stream", lambda device: device)
    monkeypatch.setattr(Queue, "is_done", False)
    return Queue


def test_values_on_the_cpu_are_read_at_once():
    values = AsyncValues()
    assert values.poll({"a": torch.tensor(1.5), "b": torch.tensor(2)}) == {"a": 1.5, "b": 2}


def test_names_that_are_no_longer_asked_for_are_not_shown():
    values = AsyncValues()
    values.poll({"a": torch.tensor(1.0)})
    assert values.poll({"b": torch.tensor(2.0)}) == {"b": 2.0}


def test_values_of_a_busy_device_are_shown_when_they_have_arrived(queue):
    values = AsyncValues()
    assert values.poll({"a": Elsewhere(1.0)}) == {}
    assert values.poll({"a": Elsewhere(2.0)}) == {}
    queue.is_done = True
    assert values.poll({"a": Elsewhere(3.0)}) == {"a": 1.0}
    assert values.poll({"a": Elsewhere(4.0)}) == {"a": 3.0}


def test_the_newest_value_that_arrived_stays_until_the_next_one_does(queue):
    values = AsyncValues()
    queue.is_done = True
    values.poll({"a": Elsewhere(1.0)})
    values.poll({"a": Elsewhere(2.0)})
    queue.is_done = False
    assert values.poll({"a": Elsewhere(3.0)}) == {"a": 1.0}


def test_values_that_were_read_for_loggers_are_newer_than_copies_under_way(queue):
    values = AsyncValues()
    values.poll({"a": Elsewhere(1.0), "b": Elsewhere(5.0)})
    values.update({"a": 2.0, "unasked": 9.0})
    queue.is_done = True
    assert values.poll({"a": Elsewhere(3.0), "b": Elsewhere(6.0)}) == {"a": 2.0, "b": 5.0}


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_nothing_waits_for_a_real_device():
    values = AsyncValues()
    metrics = {"a": torch.ones((), device="cuda"), "b": torch.full((), 2.0, device="cuda")}
    busy = torch.randn(4096, 4096, device="cuda")
    torch.cuda.set_sync_debug_mode("error")
    try:
        for _ in range(50):
            busy = busy @ busy / 64
        first = values.poll(metrics)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert first == {}
    torch.cuda.synchronize()
    assert values.poll(metrics) == {"a": 1.0, "b": 2.0}
