"""Runs programs link by link, each rank a process of its own, and finds where they differ from undisturbed runs."""

from __future__ import annotations

import os
import socket
import time
import traceback
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import torch
from torch.testing import assert_close

from tests.elastic_sweep.programs import Program, run
from trainkit.strategies.ranks.rank_group import end_default_group

TOLERANCE = 1e-6


def differences(programs: Iterable[Program], folder: Path, timeout_s: float) -> Iterator[tuple[Program, str]]:
    """Run all links of ``programs``; give those that come to something else than the run that is not disturbed."""
    programs = list(programs)
    output = ""
    for link in [None, *range(max(len(each.chain) for each in programs))]:
        for ranks in sorted({ranks for each in programs for ranks in each.chain}):
            due = [each for each in programs if _ranks_of(each, link) == ranks]
            if due:
                output += start(due, link, ranks, folder, timeout_s)
    for program in programs:
        try:
            compare(program, folder)
        except (AssertionError, FileNotFoundError) as error:
            yield program, f"{type(error).__name__}: {error}\n{_about(program, output)}"


def compare(program: Program, folder: Path) -> None:
    """Raise `AssertionError` if a global batch, a loss, a logged value or a weight differs."""
    whole = _results(program, None, folder)
    for link in range(len(program.chain)):
        results = _results(program, link, folder)
        first = results[0]
        for number in first["seen"]:
            expected, found = (sorted(pair for each in of for pair in each["seen"][number]) for of in (whole, results))
            if len(expected) < len(results):  # a rank without a share takes part with a sample of another one
                expected, found = sorted(set(expected)), _without_repeats(found)
            samples = [Counter(index for index, _ in pairs) for pairs in (expected, found)]
            assert samples[0] == samples[1], f"link {link}, batch {number}: {samples[1]}, not {samples[0]}"
            assert_close(found, expected, rtol=TOLERANCE, atol=TOLERANCE)
        for epoch, logged in first["logged"].items():
            for name, value in logged.items():
                told = f"link {link}, epoch {epoch}, {name}"
                assert_close(value, whole[0]["logged"][epoch][name], rtol=TOLERANCE, atol=TOLERANCE, msg=told)
    # It may have stopped behind its last batch, with a validation to come.
    assert max(first["seen"], default=0) in (max(whole[0]["seen"]), 0)
    for each in results:
        assert_close(each["weights"], whole[0]["weights"], rtol=TOLERANCE, atol=TOLERANCE)


def start(programs: Sequence[Program], link: int | None, ranks: int, folder: Path, timeout_s: float) -> str:
    """Run ``programs`` on so many ranks, and wait for all; return what they wrote."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    for rank in range(ranks):
        (folder / f"done_{rank}").unlink(missing_ok=True)
    # Forked, since most of the time of a process that is started is that of its imports.
    context = get_context("fork")
    processes = [
        context.Process(target=be_rank, args=(rank, ranks, port, folder, link, programs)) for rank in range(ranks)
    ]
    for process in processes:
        process.start()
    for process in processes:
        process.join(timeout_s)
        process.kill()
        process.join()
    return "\n".join((folder / f"output_{rank}").read_text() for rank in range(ranks))


def be_rank(rank: int, ranks: int, port: int, folder: Path, link: int | None, programs: Sequence[Program]) -> None:
    """Be one of the ranks, in a process of its own."""
    if ranks > 1:
        os.environ |= {"RANK": str(rank), "WORLD_SIZE": str(ranks), "LOCAL_RANK": str(rank)}
        os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "LOCAL_WORLD_SIZE": str(ranks)}
    output = os.open(folder / f"output_{rank}", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(output, 1)
    os.dup2(output, 2)
    for program in programs:
        print(f"== {program.seed} link {link} rank {rank}", flush=True)
        try:
            torch.save(run(program, link, rank, folder), _file(program, link, rank, folder))
        except Exception:
            # Those behind it run all the same: ranks that an error has ended find each other anew.
            print(traceback.format_exc(), flush=True)
    (folder / f"done_{rank}").touch()
    # Rank 0 holds the store in which all find each other, and so leaves last.
    while rank == 0 and not all((folder / f"done_{other}").exists() for other in range(ranks)):
        time.sleep(0.01)
    end_default_group()
    os._exit(0)


def _ranks_of(program: Program, link: int | None) -> int:
    link = link or 0
    return program.chain[link] if link < len(program.chain) else 0


def _results(program: Program, link: int | None, folder: Path) -> list[dict[str, Any]]:
    return [torch.load(_file(program, link, rank, folder)) for rank in range(_ranks_of(program, link))]


def _file(program: Program, link: int | None, rank: int, folder: Path) -> Path:
    return folder / f"{program.seed}_{'whole' if link is None else link}_{rank}.pt"


def _without_repeats(pairs: Sequence[tuple[int, float]]) -> list[tuple[int, float]]:
    return sorted({index: loss for index, loss in pairs}.items())


def _about(program: Program, output: str) -> str:
    """Return what ranks wrote of ``program``."""
    return "\n".join(part for part in output.split("== ") if part.startswith(f"{program.seed} "))[-5000:]
