"""What an import costs."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
import time
from dataclasses import dataclass

from benchmarks.cases.case import Budget, Case
from benchmarks.contenders import Contender
from benchmarks.figures import Clock, Comparison, Spent, compare


@dataclass(frozen=True, kw_only=True)
class Import(Case):
    """Milliseconds of the import in a new process, beyond that of torch. By hand one imports torch alone."""

    unit: str = "ms"

    def measure(self, contender: Contender, turns: int) -> dict[Clock, Comparison]:
        torch_alone, together = Spent(), Spent()
        for _ in range(turns + 1):
            _run("import torch", torch_alone)
            _run(f"import torch; {contender.IMPORT}", together)
        return compare(torch_alone, together, per_second=1e3, warm_up=1)


def _run(statement: str, spent: Spent) -> None:
    # An installed package is compiled once; so the first pair, which may have to do that, does not count.
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    before, started = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    subprocess.run([sys.executable, "-W", "ignore", "-c", statement], check=True, capture_output=True, env=environment)
    after, ended = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    spent.cpu.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    spent.wall.append(ended - started)


CASES: dict[str, Case] = {"import": Import(title="import beyond torch", budget=Budget("difference", 100), turns=9)}
