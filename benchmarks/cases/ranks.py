"""What a training step costs on several ranks, beside ``DistributedDataParallel`` in a loop written by hand."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import distributed as dist

from benchmarks import by_hand, contenders, tasks
from benchmarks.cases.case import Budget, Case
from benchmarks.contenders import Contender
from benchmarks.figures import Clock, Comparison, as_dicts
from benchmarks.job import Job, Unsupported
from benchmarks.tasks import Task
from benchmarks.turns import WARM_UP, Turns

DISTRIBUTED = ("trainkit", "lightning", "nothing")
"""The contenders that are told here how to train on several ranks."""

LIMIT_S = 800


@dataclass(frozen=True, kw_only=True)
class RanksCase(Case):
    """Microseconds a step, on ranks that are processes of this machine and exchange gradients by gloo.

    Each rank takes turns as in one process. Since ranks wait for each other in every step, all of them are in the same
    turn, and what else the machine does meets both loops alike. What is reported is rank 0.

    Attributes:
        task: What is trained.
        size: Steps in a turn.
        per_epoch: Turns in an epoch.
        ranks: How many there are.
    """

    unit: str = "us a step"
    clock: Clock = "wall"
    task: Task = tasks.MLP
    size: int = 25
    per_epoch: int = 20
    ranks: int = 2

    def measure(self, contender: Contender, turns: int) -> dict[Clock, Comparison]:
        name = contender.__name__.rpartition("with_")[2]  # type: ignore[attr-defined]  # it is a Python file
        if name not in DISTRIBUTED:
            raise Unsupported("several ranks are set up here for trainkit and Lightning only")
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder, "figures.json")
            self._run(name, turns, path)
            figures = json.loads(path.read_text())
        return {clock: Comparison.from_dict(each) for clock, each in figures.items()}

    def _run(self, contender: str, turns: int, path: Path) -> None:
        """Run all ranks, of which the first one writes ``path``.

        Raises:
            RuntimeError: If one of them fails.
        """
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        case = next(name for name, case in CASES.items() if case is self)
        command = [sys.executable, "-W", "ignore", "-m", "benchmarks.cases.ranks", case, contender, str(turns)]
        common = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "WORLD_SIZE": str(self.ranks)}
        common |= {"LOCAL_WORLD_SIZE": str(self.ranks), "OMP_NUM_THREADS": "1"}
        processes = [
            subprocess.Popen(
                [*command, str(path)],
                env={**os.environ, **common, "RANK": str(rank), "LOCAL_RANK": str(rank)},
                stderr=subprocess.PIPE,
                text=True,
            )
            for rank in range(self.ranks)
        ]
        try:
            said = [process.communicate(timeout=LIMIT_S)[1] for process in processes]
        finally:
            for process in processes:
                process.kill()
        if any(process.returncode for process in processes):
            raise RuntimeError("\n".join(said)[-500:])

    def measure_here(self, contender: str, turns: int) -> dict[Clock, Comparison]:
        """Measure in this process, which is one of the ranks."""
        torch.set_num_threads(1)
        # The same group for all, which contenders find.
        dist.init_process_group("gloo")
        batch = self.task.batch()
        per_epoch = min(self.per_epoch, turns)
        loop = by_hand.training_loop(self.task, batch, wrap=torch.nn.parallel.DistributedDataParallel)
        batches = Turns(loop, batch, size=self.size, per_epoch=per_epoch)
        epochs = -(-(turns + WARM_UP + 1) // per_epoch)  # the last turn of all stays open
        contenders.load(contender).fit(Job(self.task, batches, epochs=epochs, ranks=self.ranks))
        return batches.comparison()


CASES: dict[str, Case] = {
    "ddp": RanksCase(title="bare step on 2 ranks", budget=Budget("ratio", 1.03)),
    "ddp-transformer": RanksCase(
        title="small transformer on 2 ranks", budget=Budget("ratio", 1.03), task=tasks.TRANSFORMER, size=2
    ),
}


def _main(case: str, contender: str, turns: str, path: str) -> None:
    chosen = CASES[case]
    assert isinstance(chosen, RanksCase)
    comparison = chosen.measure_here(contender, int(turns))
    if dist.get_rank() == 0:
        Path(path).write_text(json.dumps(as_dicts(comparison)))


if __name__ == "__main__":
    _main(*sys.argv[1:])
