"""What an import costs."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass

from benchmarks.cases.case import Budget, Case
from benchmarks.contenders import Contender
from benchmarks.figures import Clock, Comparison, Spent, compare

PROBE = """
import json, time
clocks = [(time.process_time(), time.perf_counter())]
import torch
clocks.append((time.process_time(), time.perf_counter()))
{statement}
clocks.append((time.process_time(), time.perf_counter()))
print(json.dumps(clocks))
"""


@dataclass(frozen=True, kw_only=True)
class Import(Case):
    """Milliseconds of the import in a new process, beyond that of torch. By hand one imports torch alone."""

    unit: str = "ms"

    def measure(self, contender: Contender, turns: int) -> dict[Clock, Comparison]:
        torch_alone, together = Spent(), Spent()
        for _ in range(turns + 1):
            before, with_torch, with_both = _run(contender.IMPORT)
            for spent, after in ((torch_alone, with_torch), (together, with_both)):
                spent.cpu.append(after[0] - before[0])
                spent.wall.append(after[1] - before[1])
        return compare(torch_alone, together, per_second=1e3, warm_up=1)


def _run(statement: str) -> list[tuple[float, float]]:
    """Return CPU time and wall time before, between and after the two imports."""
    # An installed package is compiled once; so the first run, which may have to do that, does not count.
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    command = [sys.executable, "-W", "ignore", "-c", PROBE.format(statement=statement)]
    done = subprocess.run(command, check=True, capture_output=True, text=True, env=environment)
    clocks: list[tuple[float, float]] = json.loads(done.stdout.splitlines()[-1])
    return clocks


CASES: dict[str, Case] = {"import": Import(title="import beyond torch", budget=Budget("difference", 100), turns=5)}
