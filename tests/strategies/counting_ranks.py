"""What ranks exchange besides gradients, in many kinds of fits: ``torchrun counting_ranks.py FOLDER``."""

from __future__ import annotations

import math
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch import distributed as dist
from torch.utils.data import DataLoader, TensorDataset

from trainkit import Trainer
from trainkit.callbacks import EarlyStopping, ModelCheckpoint
from trainkit.errors import NonFiniteLossError
from trainkit.strategies.ranks import rank_group
from trainkit.testing import TinyModule, quiet_trainer

RANK = int(os.environ.get("RANK", "0"))


class Counting:
    """Notes what is exchanged between the ends of two batches, and between an epoch's last batch and the next one."""

    def __init__(self) -> None:
        self.exchanges: list[str] = []
        self.in_batches: list[str] = []
        self.between_epochs: list[list[str]] = []
        self._begins = True

    def on_train_batch_start(self, batch_idx: int, trainer: Trainer) -> None:
        if batch_idx == 0 and trainer.current_epoch:
            self.between_epochs.append(list(self.exchanges))
            self.exchanges.clear()

    def on_train_batch_end(self, trainer: Trainer) -> None:
        # What comes ahead of the first batch belongs to the beginning of the fit.
        self.in_batches += self.exchanges if trainer.progress.total_batches > 1 else []
        self.exchanges.clear()


class Plateau(TinyModule):
    """Has a schedule that goes by a metric."""

    def configure_optimizers(self) -> Any:
        optimizer = torch.optim.SGD(self.parameters(), lr=self.lr)
        schedule = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "monitor": "val/loss"}}


class Manual(TinyModule):
    """Optimizes by hand."""

    automatic_optimization = False

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        loss = self.loss(batch)
        optimizer = self.optimizers()
        optimizer.zero_grad()
        self.manual_backward(loss)
        optimizer.step()
        return loss


class Hooked(TinyModule):
    """Logs in a hook at the end of an epoch, on rank 0 alone."""

    def on_train_epoch_end(self) -> None:
        if self.global_rank == 0:
            self.log("of_hook", 3.0)


class Breaks(TinyModule):
    """Its loss is not finite in batch 3 of rank 1, or its gradients are not, which is no reason to end.

    Args:
        value: What the loss is.
    """

    def __init__(self, value: float) -> None:
        super().__init__()
        self.value = value

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        loss = self.loss(batch)
        # Infinite by what has no gradient.
        return loss + self.value if batch_idx == 3 and RANK == 1 else loss


def loader(samples: int, batch_size: int = 2) -> DataLoader[Any]:
    generator = torch.Generator().manual_seed(samples)
    tensors = [torch.randn(samples, size, generator=generator) for size in (4, 2)]
    return DataLoader(TensorDataset(*tensors), batch_size=batch_size)


@contextmanager
def counted(exchanges: list[str]) -> Iterator[None]:
    """Return a context in which all that is exchanged, but for the gradients that torch itself does, is noted."""
    exchange = rank_group.RankGroup._exchange

    def noted(self: Any, label: str, *arguments: Any) -> Any:
        exchanges.append(label)
        return exchange(self, label, *arguments)

    rank_group.RankGroup._exchange = noted  # type: ignore[method-assign]
    names = ("all_reduce", "all_gather", "broadcast", "all_gather_object", "broadcast_object_list", "barrier")
    before = {name: getattr(dist, name) for name in names}
    for name, function in before.items():
        setattr(dist, name, lambda *args, f=function, n=name, **kw: (exchanges.append(n), f(*args, **kw))[1])
    try:
        yield
    finally:
        rank_group.RankGroup._exchange = exchange  # type: ignore[method-assign]
        for name, function in before.items():
            setattr(dist, name, function)


def count(module: TinyModule, *callbacks: Any, validates: bool = False, **arguments: Any) -> dict[str, Any]:
    counting = Counting()
    trainer = quiet_trainer(strategy="ddp", callbacks=[counting, *callbacks], max_epochs=3, **arguments)
    with counted(counting.exchanges):
        trainer.fit(module, loader(24), loader(9) if validates else None)
    return {
        "batches": counting.in_batches,
        "epochs": counting.between_epochs,
        "metrics": dict(trainer.callback_metrics),
        "step": trainer.global_step,
    }


def stopped(module: TinyModule, **arguments: Any) -> str:
    try:
        quiet_trainer(strategy="ddp", on_nonfinite_loss="stop", **arguments).fit(module, loader(24))
    except NonFiniteLossError as error:
        finite = all(parameter.isfinite().all() for parameter in module.parameters())
        return f"{error} {'finite' if finite else 'lost'}"
    return "went on"


def main(folder: Path) -> None:
    results = {
        "plain": count(TinyModule()),
        "validating": count(TinyModule(), validates=True),
        "stopping": count(Plateau(), EarlyStopping("val/loss"), validates=True),
        "manual": count(Manual()),
        "accumulating": count(TinyModule(), accumulate_grad_batches=2),
        "samples": count(TinyModule(), ModelCheckpoint(folder, every="1000 samples"), enable_checkpointing=True),
        "time": count(
            TinyModule(),
            ModelCheckpoint(folder, train_time_interval=timedelta(hours=1)),
            ModelCheckpoint(folder, every="1 h", filename="other"),
            enable_checkpointing=True,
        ),
        "saving by time": count(
            TinyModule(),
            ModelCheckpoint(folder / "often", train_time_interval=timedelta(milliseconds=1)),
            enable_checkpointing=True,
        ),
        "finite": count(TinyModule(), on_nonfinite_loss="stop"),
        "hooked": count(Hooked()),
        "infinite": stopped(Breaks(math.inf)),
        "nan, accumulating": stopped(Breaks(math.nan), accumulate_grad_batches=2),
    }
    torch.save(results, folder / f"rank_{RANK}.pt")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
