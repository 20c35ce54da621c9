"""Workers outlive what stops a run, and end when the run ends them."""

from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import sys
import time

import pytest
import torch
from torch.utils.data import DataLoader, Dataset, IterableDataset

from trainkit.data import workers
from trainkit.data.loaders import LimitedLoader

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="no signals between processes")

NUMBERS = [signal.SIGINT, signal.SIGTERM, signal.SIGUSR1]


class Numbers(Dataset):
    def __len__(self):
        return 40

    def __getitem__(self, index):
        return float(index)


class Streamed(IterableDataset):
    def __iter__(self):
        return iter(torch.arange(40.0))


class Hanging(Numbers):
    def __getitem__(self, index):
        while index >= 4:
            time.sleep(60)
        return float(index)


class StartsAProgram(Numbers):
    def __getitem__(self, index):
        program = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
        program.terminate()
        return float(program.wait())


def told(worker_id):
    """Tell by the generator that the user's own function was called."""
    torch.manual_seed(100 + worker_id)


class Told(Numbers):
    def __getitem__(self, index):
        return float(torch.initial_seed())


def signal_all(processes):
    for process in processes:
        for number in NUMBERS:
            os.kill(process.pid, number)


@pytest.mark.parametrize("persistent", [False, True])
@pytest.mark.parametrize("dataset", [Numbers(), Streamed()], ids=["map", "iterable"])
def test_signals_cost_no_batch(dataset, persistent):
    loader = DataLoader(
        dataset, batch_size=4, num_workers=2, persistent_workers=persistent, multiprocessing_context="fork"
    )
    limited = LimitedLoader(loader)
    seen = []
    for _, batch, _ in limited.batches():
        signal_all(multiprocessing.active_children())
        seen.append(batch)
    limited.close()
    expected = list(DataLoader(dataset, batch_size=4, num_workers=2))
    assert len(seen) == len(expected)
    assert all(map(torch.equal, seen, expected))


@pytest.mark.slow
@pytest.mark.parametrize("method", ["spawn", "forkserver"])
def test_signals_cost_no_batch_whatever_starts_the_workers(method):
    loader = DataLoader(Numbers(), batch_size=4, num_workers=1, multiprocessing_context=method)
    batches = workers.start(loader)
    seen = [next(batches)]
    signal_all(batches._workers)
    seen += batches
    assert len(seen) == 10


def test_signals_that_come_before_a_worker_is_ready_wait_for_it():
    loader = DataLoader(Numbers(), batch_size=4, num_workers=2, multiprocessing_context="fork")
    batches = workers.start(loader)
    signal_all(batches._workers)
    assert len(list(batches)) == 10


def test_the_loader_keeps_its_attributes_and_the_users_function_is_called():
    loader = DataLoader(Told(), batch_size=1, num_workers=2, worker_init_fn=told)
    batches = workers.start(loader)
    assert loader.worker_init_fn is told
    assert loader.multiprocessing_context is None
    assert [next(batches).item(), next(batches).item()] == [100.0, 101.0]
    assert signal.pthread_sigmask(signal.SIG_BLOCK, []) == set()


def test_programs_that_a_dataset_starts_can_be_terminated():
    loader = DataLoader(StartsAProgram(), batch_size=1, num_workers=1, multiprocessing_context="fork")
    assert next(workers.start(loader)).item() == -signal.SIGTERM


@pytest.mark.parametrize("persistent", [False, True])
def test_workers_that_hang_are_killed_together(monkeypatch, persistent):
    monkeypatch.setattr(workers, "PATIENCE_S", 0.2)
    loader = DataLoader(Hanging(), batch_size=2, num_workers=2, persistent_workers=persistent)
    limited = LimitedLoader(loader)
    batches = limited.batches()
    next(batches)
    processes = multiprocessing.active_children()
    limited.close()
    assert len(processes) == 2
    for process in processes:
        process.join(5)  # a killed process may take a moment to be gone
    assert [process.is_alive() for process in processes] == [False] * 2


def test_what_python_terminates_at_its_exit_is_killed():
    loader = DataLoader(Hanging(), batch_size=2, num_workers=1, multiprocessing_context="fork")
    batches = workers.start(loader)
    next(batches)
    (process,) = batches._workers
    # As of an iterator that ends: torch does not take the death of this worker for an error any more.
    torch.utils.data._utils.signal_handling._remove_worker_pids(id(batches))
    batches._worker_pids_set = False
    process._popen.terminate()
    process.join()
    assert process.exitcode == -signal.SIGKILL


def test_other_loaders_are_iterated_as_they_are():
    assert list(workers.start([1, 2])) == [1, 2]
    assert len(list(workers.start(DataLoader(Numbers(), batch_size=4)))) == 10
