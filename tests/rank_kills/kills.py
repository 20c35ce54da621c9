"""Kills and signals ranks under torchrun at moments drawn by chance, and compares the end with the undisturbed run."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, get_args

import trainkit
from tests.rank_kills import victim
from tests.rank_kills.forked import Forked
from trainkit.checkpoint.diff import differences
from trainkit.storage.files import read_checkpoint, verify
from trainkit.testing.first_divergence import comparable

ROOT = Path(__file__).parents[2]
LIMIT_S = 240.0
"""After how long a run that does not end is taken to hang."""

Moment = Literal["start", "training", "validation", "saving"]
Kind = Literal["SIGKILL to a rank", "SIGKILL to all ranks", "SIGKILL to all and torchrun"]
Signalled = Literal["SIGTERM to a rank", "SIGTERM to all ranks", "SIGTERM to torchrun"]

LONGEST_WAIT_S: dict[Moment, float] = {"start": 2.0, "training": 1.0, "validation": 0.2, "saving": 0.01}
"""So long after a moment has come something is killed at the latest."""


Agent = subprocess.Popen[bytes] | Forked


@dataclass
class Outcome:
    """What came of runs that were killed again and again.

    Attributes:
        kills: How many there were, of each kind and at each moment.
        wrong: What should not be.
    """

    kills: dict[tuple[str, str], int] = field(default_factory=dict)
    wrong: list[str] = field(default_factory=list)

    def count(self, kind: str, moment: str) -> None:
        self.kills[kind, moment] = self.kills.get((kind, moment), 0) + 1

    @property
    def total(self) -> int:
        return sum(self.kills.values())


def run_whole(folder: Path, ranks: int, workers: int) -> None:
    """Run a victim to its end."""
    process = start(folder, ranks, workers, max_restarts=0)
    if process.wait(LIMIT_S):
        raise SystemExit(f"the run failed that was to be left alone:\n{output_of(folder)}")


def run_disturbed(
    folder: Path,
    ranks: int,
    workers: int,
    kinds: Sequence[str],
    most: int,
    chance: random.Random,
    begin: Callable[[Path, int, int, int], Agent] = Forked,
) -> Outcome:
    """Run a victim, killing or signalling it at most ``most`` times, until it comes to its end.

    Args:
        folder: Where.
        ranks: On how many ranks.
        workers: The worker processes of its loaders.
        kinds: What is sent to whom.
        most: How often.
        chance: Draws all that.
        begin: Starts torch's agent: `start` as torchrun, `Forked` without imports.
    """
    folder.mkdir(parents=True, exist_ok=True)
    outcome, process = Outcome(), None
    while not outcome.wrong:
        if process is None or process.poll() is not None:
            forget(folder)
            for leftover in (folder / "runs").rglob("*.tmp"):  # so that one of the next save can be told from it
                leftover.unlink()
            # Ranks that were asked to end are started again here, so that the codes with which they end can be seen.
            process = begin(folder, ranks, workers, most if "SIGKILL" in kinds[0] else 0)
        if outcome.total == most:
            break
        kind = chance.choice(list(kinds))
        moment: Moment = chance.choices(get_args(Moment), (1, 4, 2, 2))[0]
        if not wait_for(folder, ranks, moment, process):
            break  # it has come to its end, or hangs
        time.sleep(chance.uniform(0.0, LONGEST_WAIT_S[moment]))
        pids = pids_of(folder, ranks)
        if process.poll() is not None:
            break
        forget(folder)
        disturb(kind, process, pids, chance)
        outcome.count(kind, moment)
        if kind.startswith("SIGTERM"):
            outcome.wrong += after_signal(folder, ranks, process)
        elif kind.endswith("torchrun"):
            process.wait(LIMIT_S)
        outcome.wrong += damaged(folder)
    outcome.wrong += ended(folder, process)
    return outcome


def start(folder: Path, ranks: int, workers: int, max_restarts: int, *more: str) -> subprocess.Popen[bytes]:
    """Start a victim, or start it again; ``more`` is said to torchrun in place of ``--standalone``."""
    folder.mkdir(parents=True, exist_ok=True)
    options = [f"--nproc-per-node={ranks}", f"--max-restarts={max_restarts}", "--monitor-interval=0.1"]
    options += more or ["--standalone"]
    with open(folder / "output.txt", "ab") as output:
        return subprocess.Popen(
            [sys.executable, "-m", "torch.distributed.run", *options, victim.__file__, str(folder), str(workers)],
            stdout=output,
            stderr=subprocess.STDOUT,
            cwd=ROOT,
            env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)},
            start_new_session=True,
        )


def forget(folder: Path) -> None:
    """Forget where ranks were, so that what is told next is of those that run then."""
    for what in ("parent", "start", "training", "validation", "exit"):
        for path in folder.glob(f"{what}_*"):
            path.unlink()


def wait_for(folder: Path, ranks: int, moment: Moment, process: Agent) -> bool:
    """Wait for ``moment``; return whether it has come ahead of the end."""
    deadline_s = time.monotonic() + LIMIT_S
    while process.poll() is None and time.monotonic() < deadline_s:
        # All have to be there to be killed.
        if len(pids_of(folder, ranks)) == ranks and _has_come(folder, moment):
            return True
        time.sleep(0.002)
    return False


def _has_come(folder: Path, moment: Moment) -> bool:
    if moment == "saving":
        return any((folder / "runs").rglob("*.tmp"))
    return any(folder.glob(f"{moment}_*"))


def pids_of(folder: Path, ranks: int, whose: str = "start") -> list[int]:
    """Return the numbers of the processes that have told theirs, or those of their parents."""
    texts = []
    for rank in range(ranks):
        with suppress(OSError):
            texts.append((folder / f"{whose}_{rank}").read_text())
    return [int(text) for text in texts if text]


def disturb(kind: str, process: Agent, pids: list[int], chance: random.Random) -> None:
    """Send a signal to whom ``kind`` says."""
    name, _, whom = kind.partition(" to ")
    targets = [process.pid] if whom == "torchrun" else [chance.choice(pids)] if whom == "a rank" else list(pids)
    chance.shuffle(targets)
    for pid in [process.pid] * whom.endswith("and torchrun") + targets:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.Signals[name])


def after_signal(folder: Path, ranks: int, process: Agent) -> Iterator[str]:
    """Say what is wrong with ranks that have been asked to end."""
    try:
        process.wait(LIMIT_S)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        yield f"it hangs:\n{output_of(folder)}"
        return
    codes = {path.name: path.read_text() for path in folder.glob("exit_*")}
    # A rank that was asked while it started has no code of its own, and one may have come to its end.
    allowed = ("143", "0") if (folder / "end.ckpt").exists() else ("143",)
    if any(code not in allowed for code in codes.values()):
        yield f"exit codes {codes}:\n{output_of(folder)}"


def damaged(folder: Path) -> Iterator[str]:
    for path in (folder / "runs").rglob("*.ckpt"):
        try:
            verify(path)
        except FileNotFoundError:
            continue  # a newer one has taken its place
        except trainkit.CheckpointError as error:
            yield str(error)


def ended(folder: Path, process: Agent | None) -> Iterator[str]:
    """Let a victim come to its end; say what is wrong if it does not."""
    assert process is not None, "it was started"
    try:
        code = process.wait(LIMIT_S)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        yield f"it hangs at its end:\n{output_of(folder)}"
        return
    if code or not (folder / "end.ckpt").exists():
        yield f"it failed with {code}:\n{output_of(folder)}"


def difference(folder: Path, whole: Path) -> str:
    """Return what differs first between two victims that came to their end; nothing if they are equal."""
    states = [comparable(read_checkpoint(each / "end.ckpt", map_location="cpu")) for each in (folder, whole)]
    for state in states:
        # A run that was killed ahead of its first save began anew, in a folder of its own.
        state["trainkit"].pop("run", None)
        state["callbacks"].get("LastCheckpoint", {}).pop("run", None)
    for first in differences(states[0], states[1]):
        return str(first)
    tables = [_table(each) for each in (folder, whole)]
    return "" if tables[0] == tables[1] else f"metrics.csv: {tables[0]} and {tables[1]}"


def output_of(folder: Path) -> str:
    return (folder / "output.txt").read_text()[-6000:]


def _table(folder: Path) -> str:
    newest = max((folder / "runs").rglob("metrics.csv"), key=os.path.getmtime)
    return newest.read_text()
