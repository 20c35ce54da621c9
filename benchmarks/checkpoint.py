"""What it costs to go on in the middle of an epoch, to save, and to save beside training. Run with::

    python -m benchmarks.checkpoint [--pairs N] [--folder DISK]

A save is measured against ``torch.save`` followed by ``fsync``, one after the other, on a file that does not exist yet.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

import trainkit
from benchmarks import machine
from benchmarks.figures import Comparison, Spent, Spread, compare
from trainkit.callbacks import ModelCheckpoint
from trainkit.data.loaders import LimitedLoader
from trainkit.storage.files import write_checkpoint
from trainkit.testing import quiet_trainer

SAMPLES = 1_000_000
MEGABYTES = 200
LAYERS = 25


class Nothing(Dataset[int]):
    """Samples that cost nothing to load."""

    def __init__(self, samples: int) -> None:
        self.samples = samples

    def __len__(self) -> int:
        return self.samples

    def __getitem__(self, index: int) -> int:
        return index


def skipping(samples: int, batch_size: int, repeats: int) -> Spread:
    """Return the seconds of computing to the first batch behind so many consumed samples."""

    def loader() -> LimitedLoader:
        return LimitedLoader(DataLoader(Nothing(samples + batch_size), batch_size, shuffle=True, collate_fn=len))

    consumed, before = samples // batch_size, loader()
    batches = before.batches()
    for _ in range(consumed):
        next(batches)
    state = before.state_dict()
    seconds = []
    for _ in range(repeats):
        after = loader()
        began = time.process_time()
        after.load_state_dict(state, mid_epoch=True)
        next(after.batches(start=consumed))
        seconds.append(time.process_time() - began)
    return Spread.of(seconds)


def saving(folder: Path, megabytes: float, pairs: int) -> Comparison:
    """Compare the milliseconds of ``torch.save`` and ``fsync`` with those of a save."""
    size = int(megabytes * 1e6) // 4 // LAYERS
    state = {"state_dict": {f"layers.{index}.weight": torch.randn(size) for index in range(LAYERS)}}

    def by_hand(path: Path) -> None:
        torch.save(state, path)
        with open(path, "rb") as file:
            os.fsync(file.fileno())

    hand = timed(by_hand, folder / "by_hand.ckpt")
    ours = timed(lambda path: write_checkpoint(state, path), folder / "trainkit.ckpt")
    for _ in range(pairs + 1):
        next(hand[1]), next(ours[1])
    return compare(hand[0], ours[0], per_second=1e3, warm_up=1)["wall"]


def timed(write: Callable[[Path], None], path: Path) -> tuple[Spent, Iterator[None]]:
    """Return what writing takes, and an iterator that writes once at each step."""
    spent = Spent()

    def turns() -> Iterator[None]:
        while True:
            path.unlink(missing_ok=True)
            os.sync()  # what the other one has left to do is not ours
            spent.begin()
            write(path)
            spent.end()
            yield

    return spent, turns()


class Large(trainkit.TrainModule):
    """A module whose state is so large with that of its optimizer."""

    def __init__(self, megabytes: float) -> None:
        super().__init__()
        size = int(megabytes * 1e6) // 4 // 2 // LAYERS
        self.layers = nn.ParameterList(torch.randn(size) for _ in range(LAYERS))

    def training_step(self, batch: Tensor, batch_idx: int) -> Tensor:
        return torch.stack([layer[0] for layer in self.layers]).square().sum()

    def configure_optimizers(self) -> Any:
        return torch.optim.SGD(self.parameters(), lr=0.1, momentum=0.9)


class Watch:
    """Times each save as the loop meets it, and a copy of all tensors by hand right before."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.hand, self.save = Spent(), Spent()

    def on_train_batch_start(self, module: trainkit.TrainModule, trainer: trainkit.Trainer) -> None:
        if trainer.global_step < 1:
            return
        # The save before has to be over, and what it displaced be gone. The lock of the folder stays.
        while len([name for name in os.listdir(self.folder) if name.endswith((".ckpt", ".tmp"))]) > 1:
            time.sleep(0.01)
        tensors = list(module.parameters()) + [
            value for state in trainer.optimizers[0].state.values() for value in state.values()
        ]
        self.hand.begin()
        copies = [tensor.detach().clone() for tensor in tensors if isinstance(tensor, Tensor)]
        self.hand.end()
        del copies

    @trainkit.hookimpl(wrapper=True)
    def around_save_checkpoint(self, trainer: trainkit.Trainer) -> Iterator[None]:
        counts = trainer.global_step > 1
        if counts:
            self.save.begin()
        yield
        if counts:
            self.save.end()


def saving_beside_training(folder: Path, megabytes: float, pairs: int) -> Comparison:
    """Compare the milliseconds of a bare copy with those for which a save beside training stops the loop."""
    folder = folder / "beside"
    folder.mkdir()
    watch = Watch(folder)
    checkpoint = ModelCheckpoint(folder, every_n_train_steps=1, async_save=True)
    trainer = quiet_trainer(
        max_steps=pairs + 2, callbacks=[watch, checkpoint], enable_checkpointing=True, keep_last=False
    )
    trainer.fit(Large(megabytes), [torch.zeros(1)] * (pairs + 2))
    return compare(watch.hand, watch.save, per_second=1e3, warm_up=1)["wall"]


def shown(spread: Spread, unit: str, digits: int = 0) -> str:
    """Return a median with its quartiles."""
    return f"{spread.median:.{digits}f} {unit} ({spread.low:.{digits}f} to {spread.high:.{digits}f})"


def main() -> None:
    """Measure, and print."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.checkpoint", description=__doc__.split(".")[0])
    parser.add_argument("--pairs", type=int, default=15, help="how often to measure")
    parser.add_argument("--folder", type=Path, help="on the disk to measure (default: that of temporary files)")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    console = Console(highlight=False)
    console.print(", ".join(f"{key} {value}" for key, value in machine.describe().items() if value is not None))
    for batch_size in (1, 32):
        spread = skipping(SAMPLES, batch_size, max(3, arguments.pairs // 3))
        console.print(f"going on behind {SAMPLES:,} samples in batches of {batch_size}: {shown(spread, 's', 2)}")
    with tempfile.TemporaryDirectory(dir=arguments.folder) as temporary:
        folder = Path(temporary)
        console.print(f"torch.save and fsync of {MEGABYTES} MB, and a save:")
        report(console, saving(folder, MEGABYTES, arguments.pairs))
        console.print(f"a copy of {MEGABYTES} MB, and what a save beside training stops the loop for:")
        report(console, saving_beside_training(folder, MEGABYTES, arguments.pairs))


def report(console: Console, comparison: Comparison) -> None:
    """Print both sides and their ratio."""
    sides = f"{shown(comparison.hand, 'ms')}, {shown(comparison.contender, 'ms')}"
    console.print(f"    {sides}: {shown(comparison.ratio, 'times', 2)}")


if __name__ == "__main__":
    main()
