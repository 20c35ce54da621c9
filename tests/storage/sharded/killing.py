"""Two ranks that save one checkpoint over and over, and are killed at a random moment."""

from __future__ import annotations

import os
import random
import signal
import socket
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.tensor import Shard, distribute_tensor

from trainkit.checkpoint.background import BackgroundJob
from trainkit.checkpoint.locate import newest_checkpoint
from trainkit.checkpoint.sharded_save import save_sharded
from trainkit.storage import put_in_place
from trainkit.storage.files import read_checkpoint, share_checkpoint, write_checkpoint
from trainkit.storage.temporary_names import PATTERN
from trainkit.strategies.ddp import DDP

WORLD_SIZE = 2
LONGEST_S = 60.0
SHAPES = [(5, 3), (1,), (64, 64), (7,)]


class Killing:
    """Ranks of one folder, started and killed once for each draw.

    Args:
        folder: In which they save ``a.ckpt``, and share it as ``last.ckpt``.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.path = folder / "a.ckpt"
        self.newest = 0

    def draw(self, seed: int) -> str:
        """Start ranks, kill them, and return what is wrong with what is left; empty if nothing is."""
        chance = random.Random(seed)
        exchanges, in_background, kills_all = (chance.random() < 0.5 for _ in range(3))
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        first = self.newest + 1
        ranks = [
            _forked(lambda rank=rank: self._save(rank, port, first, exchanges, in_background))
            for rank in range(WORLD_SIZE)
        ]
        deadline_s = time.monotonic() + LONGEST_S
        while _number_in(self.path) < first and time.monotonic() < deadline_s:
            time.sleep(0.005)
        time.sleep(chance.uniform(0, 0.3))
        victims = ranks if kills_all else [chance.choice(ranks)]
        before = _number_in(self.path)
        for process in victims:
            os.kill(process, signal.SIGKILL)
        if not kills_all:
            time.sleep(0.3)  # the other one sees it
        for process in ranks:
            os.kill(process, signal.SIGKILL)
            os.waitpid(process, 0)
        described = f"seed {seed}, exchange {exchanges}, background {in_background}, all {kills_all}"
        wrong = self._wrong(before or first)
        return f"{described}: {wrong}" if wrong else ""

    def leftovers(self) -> list[str]:
        """Return the names of temporary folders that there are."""
        return [name for name in os.listdir(self.folder) if PATTERN.fullmatch(name)]

    def _wrong(self, at_least: int) -> str:
        with warnings.catch_warnings(action="error"):  # of a damaged one that was passed over
            newest = newest_checkpoint([self.folder], resumes=False)
        if newest is None:
            return "there is no checkpoint"
        for path in self.folder.glob("*.ckpt"):
            if wrong := _contradiction(read_checkpoint(path)):
                return f"{path.name}: {wrong}"
        best = max(read_checkpoint(path)["global_step"] for path in self.folder.glob("*.ckpt"))
        if best < at_least:
            return f"the newest has {best}, and {at_least} was there"
        self.newest = best
        return ""

    def _save(self, rank: int, port: int, first: int, exchanges: bool, in_background: bool) -> None:
        os.environ.update(RANK=str(rank), WORLD_SIZE=str(WORLD_SIZE), MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port))
        if not exchanges:
            put_in_place._renameat2 = lambda: None  # type: ignore[assignment]
        strategy = DDP()
        strategy.assign([torch.device("cpu")] * WORLD_SIZE)
        strategy.setup()
        mesh = init_device_mesh("cpu", (WORLD_SIZE,))
        job = BackgroundJob() if in_background else None
        for number in range(first, first + 10_000):
            tensors = [torch.full(shape, float(number)) for shape in SHAPES]
            weights = {str(each.shape): distribute_tensor(each, mesh, [Shard(0)]) for each in tensors}
            content = {"epoch": number, "global_step": number, "state_dict": weights, "also": torch.tensor(number)}
            save_sharded(content, self.path, strategy, self._finish, job)
            if job is not None:
                for weight in weights.values():
                    weight.to_local().fill_(-1.0)  # training goes on
                strategy.agreed(job.finish)

    def _finish(self, write: Any) -> None:
        write_checkpoint(write, self.path)
        share_checkpoint(self.path, self.folder / "last.ckpt")


def _contradiction(checkpoint: dict[str, Any]) -> str:
    number = checkpoint["global_step"]
    wrong = [name for name, weight in checkpoint["state_dict"].items() if not torch.all(weight == float(number))]
    return f"{wrong} are not of {number}" if wrong or checkpoint["also"] != number else ""


def _number_in(path: Path) -> int:
    try:
        return int(read_checkpoint(path, whole=False)["global_step"])
    except Exception:  # it is about to be replaced
        return 0


def _forked(work: Callable[[], None]) -> int:
    """Do ``work`` in a process that is forked from this one, which has imported all; return its number."""
    process = os.fork()
    if process:
        return process
    try:
        output = os.open(os.devnull, os.O_WRONLY)
        os.dup2(output, 1)
        os.dup2(output, 2)
        work()
    finally:
        os._exit(1)
