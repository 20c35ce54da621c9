"""Starts the ranks of a draw as forks of this process, and says what is wrong with how they have ended."""

from __future__ import annotations

import atexit
import dataclasses
import os
import shutil
import signal
import socket
import sys
import threading
import time
import traceback
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

import torch
from torch.testing import assert_close

from tests.rank_disagreements.draws import CALLS, ENDINGS, HARMLESS, Draw
from tests.rank_disagreements.program import run

MISMATCH = "Is there a distributed collective mismatch in your code?"

LIMIT_S = 60
"""How long a draw may take before it counts as a hang."""


class Ended(NamedTuple):
    """How a rank has ended.

    Attributes:
        code: Its exit code, below 0 for the signal that ended it; None if it had not ended.
        text: What it has printed.
        result: What its call has come to, if it has come to its end.
    """

    code: int | None
    text: str
    result: dict[str, Any] | None


class Outcome(NamedTuple):
    """What came of a draw.

    Attributes:
        draw: The draw.
        ranks: How the ranks have ended.
        fired: Whether the odd rank came to do what it was to do.
        took_s: How long it took.
    """

    draw: Draw
    ranks: list[Ended]
    fired: bool
    took_s: float


class _Started:
    def __init__(self, draw: Draw, folder: Path) -> None:
        self.draw, self.folder = draw, folder
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        sys.stdout.flush()
        self.began_s = time.monotonic()
        self.codes: dict[int, int | None] = {}
        self.pids = [self._fork(rank, port) for rank in range(draw.world_size)]

    def poll(self) -> Outcome | None:
        """Return what came of it, once it is over."""
        for pid in self.pids:
            if pid not in self.codes:
                found, status = os.waitpid(pid, os.WNOHANG)
                if found:
                    self.codes[pid] = os.waitstatus_to_exitcode(status)
        took_s = time.monotonic() - self.began_s
        if len(self.codes) < len(self.pids):
            if took_s < LIMIT_S:
                return None
            for pid in [each for each in self.pids if each not in self.codes]:
                os.kill(pid, signal.SIGKILL)
                os.waitpid(pid, 0)
                self.codes[pid] = None
        ranks = [self._ended(rank) for rank in range(self.draw.world_size)]
        return Outcome(self.draw, ranks, (self.folder / "fired").exists(), took_s)

    def _ended(self, rank: int) -> Ended:
        result = self.folder / f"{rank}.pt"
        return Ended(
            self.codes[self.pids[rank]],
            (self.folder / f"{rank}.txt").read_text(errors="replace"),
            torch.load(result) if result.exists() else None,
        )

    def _fork(self, rank: int, port: int) -> int:
        # A process that has imported torch is copied at once, and importing it takes seconds.
        pid = os.fork()
        if pid:
            return pid
        own = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": self.draw.world_size, "MASTER_PORT": port}
        os.environ.update({name: str(value) for name, value in own.items()}, MASTER_ADDR="127.0.0.1")
        output = os.open(self.folder / f"{rank}.txt", os.O_CREAT | os.O_WRONLY)
        os.dup2(output, 1)
        os.dup2(output, 2)
        sys.stdout = sys.stderr = os.fdopen(1, "w", buffering=1)
        _end_like_a_program(self.draw, rank, self.folder)


def _end_like_a_program(draw: Draw, rank: int, folder: Path) -> NoReturn:
    """Do what a rank does, and end as Python does: with a traceback, an exit code, and what is done at exit."""
    code = 0
    for signal_number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(signal_number, signal.default_int_handler if signal_number == signal.SIGINT else signal.SIG_DFL)
    try:
        torch.save(run(draw, rank, folder), folder / f"{rank}.pt")
    except SystemExit as error:
        code = error.code if isinstance(error.code, int) else 1
    except BaseException:
        traceback.print_exc()
        code = 1
    try:
        threading._shutdown()  # type: ignore[attr-defined]  # what Python does, which `os._exit` leaves out
        atexit._run_exitfuncs()
    except BaseException:
        traceback.print_exc()
        code = 1
    sys.stdout.flush()
    os._exit(code)


def undisturbed_outcomes(draws: Iterable[Draw], folder: Path, *, at_once: int) -> dict[Draw, Outcome]:
    """Return what `undisturbed` draws come to, of which there are fewer than draws."""
    quiet = [dataclasses.replace(each, seed=-1 - n) for n, each in enumerate(dict.fromkeys(map(undisturbed, draws)))]
    found = outcomes(quiet, folder, at_once=at_once)
    return {dataclasses.replace(outcome.draw, seed=0): outcome for outcome in found}


def outcomes(draws: Iterable[Draw], folder: Path, *, at_once: int = 3) -> Iterator[Outcome]:
    """Give what came of each of ``draws``, of which ``at_once`` run beside each other, in the order of their ends."""
    waiting, running = list(draws), []
    while waiting or running:
        while waiting and len(running) < at_once:
            draw = waiting.pop(0)
            running.append(_Started(draw, folder / f"{draw.seed}_{draw.action}".replace(" ", "_")))
        for started in list(running):
            if outcome := started.poll():
                running.remove(started)
                yield outcome
        time.sleep(0.02)


def undisturbed(draw: Draw) -> Draw:
    """Return ``draw`` with nothing done in it; equal for all that do the same otherwise."""
    return dataclasses.replace(
        draw, seed=0, odd=0, hook="on_fit_end", owner="callback", at=1, action="nothing", saves=False
    )


def fault(outcome: Outcome, reference: dict[str, Any] | None) -> str:
    """Return what is wrong with ``outcome``; empty if nothing is.

    Args:
        outcome: What came of a draw.
        reference: What rank 0 comes to if nothing is done.
    """
    draw, ranks = outcome.draw, outcome.ranks
    hangs = [rank for rank, each in enumerate(ranks) if each.code is None]
    if hangs:
        return f"ranks {hangs} hang"
    odd, others = ranks[draw.odd], [(rank, each) for rank, each in enumerate(ranks) if rank != draw.odd]
    if all(each.result is not None and each.code == 0 for each in ranks):
        if draw.action in ENDINGS and outcome.fired:
            return "the odd rank has not ended as it should"
        if draw.action in {"changes a weight", "changes a rate"} and draw.hook in _behind_all(draw):
            return ""  # the next call begins with the weights of rank 0, and with optimizers of its own
        if differing := _difference([each.result for each in ranks]):
            return f"silently different on the ranks: {differing}"
        may_differ = outcome.fired and draw.action not in {
            *HARMLESS,
            "logs with sync_dist",
            "saves",
            "meets",
            "reduces",
        }
        if not may_differ and reference is not None and (differing := _difference([reference, ranks[0].result])):
            return f"other than undisturbed: {differing}"
        return ""
    if not outcome.fired:
        return f"failed without a disturbance: {[each.code for each in ranks]}"
    if draw.action in {"nothing", "sleeps", "stops"}:
        return f"{draw.action} is harmless, and failed"
    if draw.action in ENDINGS and odd.code != ENDINGS[draw.action]:
        return f"the odd rank has ended with {odd.code}"
    if draw.action not in ENDINGS and odd.code == 0:
        return "the odd rank has ended well, and another has not"
    if draw.action == "reduces" and MISMATCH in "".join(each.text for each in ranks):
        return ""  # what torch sends for another purpose is taken for it, and ends the program in C++
    for rank, each in others:
        if each.code == 0 and each.result is not None:
            # It was behind all that it needs others for.
            if reference is not None and (differing := _difference([reference, each.result])):
                return f"rank {rank} went on alone, to something else: {differing}"
            continue
        if f"rank {draw.odd}" not in each.text:
            return f"rank {rank} does not name the odd one"
        # By hand, None from training_step means nothing: what the ranks see is that a backward is missing.
        if (
            draw.action == "skips"
            and not draw.is_manual
            and "-1" not in each.text
            and f"its {draw.hook} returned None" not in each.text
        ):
            return f"rank {rank} does not say what was skipped"
        if draw.action not in {"skips", "changes a rate", "changes a weight", "breaks", "is killed", "ends at once"}:
            owner = "Odd" if draw.owner == "callback" else "Module"
            if draw.hook not in each.text or owner not in each.text:
                return f"rank {rank} does not name the plugin and the hook"
    if draw.action in {"changes a rate", "changes a weight"} and "drifted apart" not in odd.text:
        return "the drift is not told"
    return ""


def _behind_all(draw: Draw) -> set[str]:
    """Return the hooks behind which a call does nothing more with the weights."""
    if draw.call == "fit":
        return {"teardown"}
    return {"teardown", f"on_{CALLS[draw.call]}_epoch_end", f"on_{CALLS[draw.call]}_end"}


def _difference(results: list[Any]) -> str:
    for rank, each in enumerate(results[1:], 1):
        try:
            assert_close(each, results[0], rtol=1e-9, atol=1e-12)
        except AssertionError as error:
            return f"{rank}: {error}"
    return ""
