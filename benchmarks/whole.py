"""What is measured of a whole call, or of a whole process: fixed costs, imports, memory."""

from __future__ import annotations

import resource
import subprocess
import sys
import time
from collections.abc import Iterator
from itertools import chain, repeat
from typing import Any

from benchmarks import tasks
from benchmarks.by_hand import training_loop
from benchmarks.cases import Job
from benchmarks.turns import Batch, Repeated, compare

MB = 2**20


def fixed_cost(contender: Any, turns: int) -> dict[str, Any]:
    """Return the milliseconds of a whole run of two steps: the making of module, optimizer and trainer, and a fit."""
    task = tasks.MLP
    batch = task.batch()
    spent: dict[str, list[list[float]]] = {"hand": [], "contender": []}
    for _ in range(turns + 2):
        for who in spent:
            cpu, wall = time.thread_time(), time.perf_counter()
            if who == "hand":
                training_loop(task, batch)(2)
            else:
                contender.fit(Job(task, Repeated(batch, 2), epochs=1))
            spent[who].append([1e3 * (time.thread_time() - cpu), 1e3 * (time.perf_counter() - wall)])
    return {
        clock: compare(*([turn[index] for turn in spent[who][2:]] for who in ("hand", "contender")))
        for index, clock in enumerate(("cpu_ms", "wall_ms"))
    }


def import_time(contender: Any, turns: int) -> dict[str, Any]:
    """Return the milliseconds that the import takes in a new process, beyond that of torch."""
    spent = {statement: [] for statement in ("import torch", f"import torch; {contender.IMPORT}")}
    for _ in range(max(3, turns // 10)):
        for statement, times in spent.items():
            before = resource.getrusage(resource.RUSAGE_CHILDREN)
            subprocess.run([sys.executable, "-W", "ignore", "-c", statement], check=True, capture_output=True)
            after = resource.getrusage(resource.RUSAGE_CHILDREN)
            times.append(1e3 * (after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime))
    alone, together = spent.values()
    return {"cpu_ms": compare(alone, together)}


class Watched:
    """Batches that note how much memory the process has after some of them."""

    def __init__(self, batch: Batch, count: int, first_look: int) -> None:
        self.batch, self.count, self.first_look = batch, count, first_look
        self.resident: dict[int, float] = {}

    def __len__(self) -> int:
        return self.count

    def __iter__(self) -> Iterator[Batch]:
        return chain(self._look(self.first_look), self._look(self.count - self.first_look))

    def _look(self, count: int) -> Iterator[Batch]:
        yield from repeat(self.batch, count)
        self.resident[len(self.resident)] = resident_mb()


def memory(contender: Any, steps: int) -> dict[str, Any]:
    """Return by how many MB the process grows from a tenth of ``steps`` to all of them, while a metric is logged."""
    watched = Watched(tasks.MLP.batch(), steps, steps // 10)
    contender.fit(Job(tasks.MLP, watched, epochs=1, metrics=1))
    before, after = watched.resident.values()
    return {"resident_mb": {"before": before, "after": after, "growth": after - before, "steps": steps}}


def resident_mb() -> float:
    """Return the memory of this process that is in use."""
    with open("/proc/self/statm") as statm:
        return int(statm.read().split()[1]) * resource.getpagesize() / MB


def data_from_memory(turns: int) -> dict[str, Any]:
    """Return the microseconds a batch of 256 samples takes to come, from a DataLoader and from a TensorLoader."""
    import torch
    from torch.utils.data import DataLoader, TensorDataset

    from trainkit.data import TensorLoader

    x, y = torch.randn(25_600, 64), torch.randint(10, (25_600,))
    loaders = {
        "hand": DataLoader(TensorDataset(x, y), batch_size=256, shuffle=True),
        "contender": TensorLoader((x, y), batch_size=256, shuffle=True),
    }
    spent: dict[str, list[float]] = {who: [] for who in loaders}
    for _ in range(turns + 2):
        for who, loader in loaders.items():
            start = time.thread_time()
            for _ in loader:
                pass
            spent[who].append(1e6 * (time.thread_time() - start) / len(loader))
    return {"cpu_us": compare(spent["hand"][2:], spent["contender"][2:])}
