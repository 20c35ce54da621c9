"""Kill a run with SIGKILL at random moments, start it again each time, and compare with the run that was never killed.

Each victim is a process of its own, ``trainkit fit CONFIG --resume``, that saves after every second update. Kills come
while it starts or resumes, while it trains, and while it saves; some hit its whole process group, and some it alone, so
that its workers are orphans. After every kill every checkpoint that there is has to be whole, and the
process that follows has to go on from one. In the end the checkpoint, the table and the curves have to be equal bit for
bit. Run with::

    python -m scripts.kill_harness [--kills N] [--only CASE ...] [--seed N]
"""

from __future__ import annotations

import argparse
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

import trainkit
from trainkit.checkpoint.diff import differences
from trainkit.storage.files import read_checkpoint, verify
from trainkit.testing.first_divergence import comparable

ROOT = Path(__file__).parents[1]
SAMPLES, FEATURES, HIDDEN = 160, 32, 512
OUTPUT, STARTED = "output.txt", "training begins"
Moment = Literal["start", "training", "saving"]
LONGEST_WAIT_S: dict[Moment, float] = {"start": 3.0, "training": 0.8, "saving": 0.01}
"""So long after a moment has come a victim is killed at the latest. A whole run takes several seconds."""

CONFIG = """
seed: 1
module: {_target_: scripts.kill_harness.Victim}
data: {_target_: scripts.kill_harness.Data}
trainer:
  accelerator: cpu
  max_epochs: 4
  accumulate_grad_batches: 2
  val_check_interval: 15
  log_every_n_steps: 1
  enable_progress_bar: false
  enable_model_summary: false
callbacks:
  newest: {use: model_checkpoint, every_n_train_steps: 2, save_last: true}
  best: {use: model_checkpoint, monitor: val/loss, save_top_k: 2}
"""


class Samples(Dataset[tuple[Tensor, Tensor]]):
    """Samples that are augmented with random numbers from every generator."""

    def __len__(self) -> int:
        return SAMPLES

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        x = torch.full((FEATURES,), index / SAMPLES) + torch.rand(FEATURES) + random.random() + float(np.random.rand())
        return x, x[:1] * 2.0


class Data(trainkit.DataModule):
    """The data of a victim."""

    def __init__(self, num_workers: int = 0) -> None:
        super().__init__()
        self.num_workers = num_workers

    def train_dataloader(self) -> Any:
        return DataLoader(Samples(), 4, shuffle=True, num_workers=self.num_workers)

    def val_dataloader(self) -> Any:
        return DataLoader(Samples(), 40, num_workers=self.num_workers)


class Victim(trainkit.TrainModule):
    """What is trained: large enough that a save takes as long as a few steps."""

    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Sequential(
            nn.Linear(FEATURES, HIDDEN), nn.ReLU(), nn.Dropout(0.3), nn.Linear(HIDDEN, HIDDEN), nn.Linear(HIDDEN, 1)
        )

    def on_train_start(self) -> None:
        print(STARTED, flush=True)

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        x, y = batch
        loss = nn.functional.mse_loss(self.net(x), y)
        self.log("train/loss", loss, on_step=True, on_epoch=True)
        return loss

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        x, y = batch
        self.log("val/loss", nn.functional.mse_loss(self.net(x), y))

    def configure_optimizers(self) -> Any:
        optimizer = torch.optim.AdamW(self.parameters(), lr=1e-3)
        return [optimizer], [{"scheduler": torch.optim.lr_scheduler.StepLR(optimizer, 10, 0.9), "interval": "step"}]


CASES: dict[str, list[str]] = {
    "no workers": [],
    "2 workers": ["data.num_workers=2"],
    "no workers, saving beside training": ["callbacks.newest.async_save=true", "callbacks.best.async_save=true"],
    "2 workers, saving beside training": [
        "data.num_workers=2",
        "callbacks.newest.async_save=true",
        "callbacks.best.async_save=true",
    ],
}


@dataclass
class Outcome:
    """What came of one run that was killed again and again.

    Attributes:
        kills: How many there were.
        while_saving: How many of them left a half-written file behind.
        from_a_checkpoint: How many times the process that followed had a checkpoint to go on from.
        wrong: What should not be.
    """

    kills: int = 0
    while_saving: int = 0
    from_a_checkpoint: int = 0
    wrong: list[str] = field(default_factory=list)


def start(folder: Path, overrides: list[str]) -> subprocess.Popen[bytes]:
    """Start a victim, or start it again."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.yaml").write_text(CONFIG)
    options = [str(folder / "config.yaml"), "--resume", f"trainer.default_root_dir={folder / 'runs'}", *overrides]
    with open(folder / OUTPUT, "wb") as output:
        return subprocess.Popen(
            [sys.executable, "-m", "trainkit", "fit", *options],
            stdout=output,
            stderr=subprocess.STDOUT,
            cwd=ROOT,
            env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)},
            start_new_session=True,
        )


def run_whole(folder: Path, overrides: list[str]) -> None:
    """Run a victim to its end."""
    if start(folder, overrides).wait():
        raise SystemExit(f"the run failed that was to be left alone:\n{(folder / OUTPUT).read_text()}")


def run_killed(folder: Path, overrides: list[str], moments: Iterable[Moment], chance: random.Random) -> Outcome:
    """Run a victim, killing it at each of ``moments`` before it is let run to its end."""
    outcome, upcoming = Outcome(), iter(moments)
    while True:
        had = checkpoints(folder)
        process = start(folder, overrides)
        moment = next(upcoming, None)
        killed = moment is not None and kill(process, folder, moment, chance)
        outcome.from_a_checkpoint += bool(had)
        outcome.wrong += list(_lies(folder, had=bool(had), code=process.wait()))
        if outcome.wrong or not killed:
            return outcome
        outcome.kills += 1
        leftovers = list((folder / "runs").rglob("*.tmp"))
        outcome.while_saving += bool(leftovers)
        for leftover in leftovers:  # so that those of the next kill can be told from them
            leftover.unlink()


def kill(process: subprocess.Popen[bytes], folder: Path, moment: Moment, chance: random.Random) -> bool:
    """Kill a victim; return whether it was still alive then."""
    while process.poll() is None and not _has_come(moment, folder):
        time.sleep(0.001)
    time.sleep(chance.uniform(0.0, LONGEST_WAIT_S[moment]))
    if process.poll() is not None:
        return False
    # Some victims leave their workers behind, which have to notice.
    (os.killpg if chance.random() < 0.5 else os.kill)(process.pid, signal.SIGKILL)
    return process.wait() == -signal.SIGKILL


def _has_come(moment: Moment, folder: Path) -> bool:
    if moment == "training":
        return STARTED in (folder / OUTPUT).read_text()
    # Not in the very first save: a run that has none begins anew, and nothing could go wrong.
    return moment == "start" or all(any((folder / "runs").rglob(name)) for name in ("*.ckpt", "*.tmp"))


def checkpoints(folder: Path) -> list[Path]:
    """Return all checkpoints of a victim, the oldest first."""
    return sorted((folder / "runs").rglob("*.ckpt"), key=os.path.getmtime)


def difference(folder: Path, whole: Path) -> str:
    """Return what differs first between two victims that came to their end; nothing if they are equal."""
    ends = [checkpoints(place)[-1] for place in (folder, whole)]
    states = [comparable(read_checkpoint(end, map_location="cpu")) for end in ends]
    for first in differences(states[0], states[1]):
        return str(first)
    # A run that was killed ahead of its first save began anew, in a folder of its own.
    runs = [end.parents[1] for end in ends]
    for what, read in (("checkpoints", _number), ("metrics.csv", _table), ("curves", _curves)):
        one, other = map(read, runs)
        if one != other:
            return f"{what}: {one} and {other}"
    return ""


def _lies(folder: Path, *, had: bool, code: int) -> Iterator[str]:
    output = (folder / OUTPUT).read_text()
    for path in checkpoints(folder):
        try:
            verify(path)
        except trainkit.CheckpointError as error:
            yield str(error)
    if "damaged" in output or (had and "this is the first" in output):
        yield f"it did not go on from what there was:\n{output}"
    if code not in (0, -signal.SIGKILL):
        yield f"it failed:\n{output}"


def _number(run: Path) -> int:
    # Which ones: a kill between two saves at one step may cost the second.
    return len(list((run / "checkpoints").iterdir()))


def _table(run: Path) -> str:
    return (run / "metrics.csv").read_text()


def _curves(run: Path) -> dict[str, Any]:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    read = EventAccumulator(str(run)).Reload()
    return {tag: [(event.step, event.value) for event in read.Scalars(tag)] for tag in read.Tags()["scalars"]}


def main() -> None:
    """Kill until there have been as many kills as were asked for, and fail if anything was wrong."""
    parser = argparse.ArgumentParser(description="kill a run at random moments, continue it, and compare")
    parser.add_argument("--kills", type=int, default=120, help="how many in all")
    parser.add_argument("--only", choices=CASES, nargs="*", default=list(CASES), help="which of the cases")
    parser.add_argument("--seed", type=int, default=0, help="from which the moments are drawn")
    arguments = parser.parse_args()
    chance, kills = random.Random(arguments.seed), 0
    while kills < arguments.kills:
        for name in arguments.only:
            overrides = CASES[name]
            with tempfile.TemporaryDirectory() as temporary:
                folder = Path(temporary)
                run_whole(folder / "whole", overrides)
                most = min(arguments.kills - kills, -(-arguments.kills // len(arguments.only)))
                moments = chance.choices(get_args(Moment), (1, 2, 2), k=most)
                outcome = run_killed(folder / "killed", overrides, moments, chance)
                wrong = outcome.wrong or list(filter(None, [difference(folder / "killed", folder / "whole")]))
            kills += outcome.kills
            print(
                f"{name:36} {outcome.kills:3} kills, {outcome.while_saving} in a save, {outcome.from_a_checkpoint} "
                f"continued from a checkpoint: {'equal' if not wrong else 'WRONG'}",
                flush=True,
            )
            if wrong:
                raise SystemExit("\n".join(wrong))
            if kills >= arguments.kills:
                break
    print(f"{kills} kills, every continuation equal to the run that was never killed")


if __name__ == "__main__":
    main()
