"""Programs on several ranks, each a process of its own, and in what they differ from one process.

``python -m tests.rank_sweep.ranks STRATEGY FOLDER SEED ...`` is one of the ranks.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import traceback
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import torch
from torch.testing import assert_close

from tests.rank_sweep.programs import Program, reference, run

ROOT = Path(__file__).parents[2]


def differences(
    seeds: Iterable[int], world_size: int, folder: Path, timeout_s: float, strategy: str = "ddp"
) -> Iterator[tuple[Program, str]]:
    """Run the programs of ``seeds`` on ``world_size`` ranks; give those that come to something else than alone."""
    seeds = [seed for seed in seeds if Program.draw(seed).suits(strategy)]
    output = start(seeds, world_size, folder, timeout_s, strategy)
    for index, seed in enumerate(seeds):
        program = Program.draw(seed)
        files = [folder / f"{seed}_{rank}.pt" for rank in range(world_size)]
        if not all(file.exists() for file in files):
            yield program, f"ended early:\n{output[-6000:]}"
            # All programs run in the same processes, so those behind it have not.
            rest = seeds[index + 1 :]
            yield from differences(rest, world_size, folder, timeout_s, strategy) if rest else ()
            return
        expected = reference(program, world_size)
        for rank, file in enumerate(files):
            try:
                compare(torch.load(file), expected, program.tolerance)
            except AssertionError as error:
                yield program, f"rank {rank}: {error}"
                break


def start(seeds: list[int], world_size: int, folder: Path, timeout_s: float, strategy: str) -> str:
    """Run one process for each rank, and wait for all; return what they wrote."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    shared = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "OMP_NUM_THREADS": "1"}
    shared |= {"WORLD_SIZE": str(world_size), "LOCAL_WORLD_SIZE": str(world_size)}
    command = [sys.executable, "-m", "tests.rank_sweep.ranks", strategy, str(folder), *map(str, seeds)]
    ranks = []
    for rank in range(world_size):
        with (folder / f"output_{rank}").open("w") as output:
            environment = {**os.environ, **shared, "RANK": str(rank), "LOCAL_RANK": str(rank)}
            ranks.append(subprocess.Popen(command, cwd=ROOT, env=environment, stdout=output, stderr=output))
    for process in ranks:
        try:
            process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
    return "\n".join((folder / f"output_{rank}").read_text() for rank in range(world_size))


def compare(result: dict[str, Any], expected: dict[str, Any], tolerance: float) -> None:
    """Raise `AssertionError` if weights, counts, metrics, rates or predictions differ."""
    for part in ("global_step", "weights", "lr", "logged", "predicted"):
        close = {"rtol": tolerance, "atol": tolerance}
        assert_close(result[part], expected[part], **close, msg=lambda text, part=part: f"{part}: {text}")


def main(strategy: str, folder: Path, seeds: list[int]) -> None:
    rank, world_size = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
    for seed in seeds:
        try:
            result = run(Program.draw(seed), rank, world_size, strategy=strategy)
        except BaseException:
            print(Program.draw(seed), traceback.format_exc(), flush=True)
            os._exit(1)
        torch.save(result, folder / f"{seed}_{rank}.pt")


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), [int(seed) for seed in sys.argv[3:]])
