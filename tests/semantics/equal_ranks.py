"""How two ranks come to the same: ``torchrun equal_ranks.py FOLDER`` writes ``FOLDER/rank_N.pt`` on rank N.

``FOLDER/alone.ckpt`` is a checkpoint of one process.
"""

from __future__ import annotations

import sys
import warnings
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset, IterableDataset

from trainkit import Trainer, TrainModule, seed_everything
from trainkit.data import ShardedIterable
from trainkit.errors import TrainkitError

SAMPLES = 16


class Drawn(Dataset[Any]):
    """Samples that are drawn anew each time, as augmentations are; the first number says which it is."""

    def __len__(self) -> int:
        return SAMPLES

    def __getitem__(self, index: int) -> Any:
        return torch.tensor([index, torch.rand(()).item(), 1.0, 2.0])


class Stream(IterableDataset[Any]):
    def __iter__(self) -> Any:
        return iter(torch.arange(SAMPLES * 4.0).view(SAMPLES, 4))


class Watched(TrainModule):
    """Notes what it sees and draws."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.layer = nn.Linear(4, 2)
        self.norm = nn.BatchNorm1d(4)
        self.seen: list[Any] = []
        self.drawn: list[float] = []
        self.means: list[Any] = []

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        self.seen += batch.tolist()
        self.drawn.append(torch.rand(()).item())
        return self.layer(self.norm(batch)).square().mean()

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        self.means.append(self.norm.running_mean.tolist())

    def predict_step(self, batch: Any, batch_idx: int) -> Any:
        return batch[:, 0].tolist()

    def configure_optimizers(self) -> Any:
        return torch.optim.SGD(self.parameters(), lr=0.1)


class OtherRate(Watched):
    def on_train_batch_start(self) -> None:
        self.trainer.optimizers[0].param_groups[0]["lr"] = 0.1 / (1 + self.global_rank)


class OtherUpdate(Watched):
    def on_before_optimizer_step(self) -> None:
        self.layer.weight.grad.mul_(self.global_rank)  # type: ignore[union-attr]  # behind backward


class Plateau(Watched):
    """Has a metric that gets better on rank 0 alone."""

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        better = -self.trainer.global_step if self.global_rank == 0 else 0
        self.log("own", float(better), on_step=False, on_epoch=True, sync_dist=False)
        return super().training_step(batch, batch_idx)

    def configure_optimizers(self) -> Any:
        optimizer = super().configure_optimizers()
        scheduler = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, patience=0)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "monitor": "own"}}


class Manual(Watched):
    def __init__(self) -> None:
        super().__init__()
        self.automatic_optimization = False
        self.path = ""
        self.saved: list[float] = []

    def training_step(self, batch: Any, batch_idx: int) -> None:
        optimizer = self.optimizers()
        optimizer.zero_grad()
        self.manual_backward(super().training_step(batch, batch_idx))
        optimizer.step()

    def on_train_start(self) -> None:
        self.means.append(self.norm.running_mean.tolist())

    def on_validation_end(self) -> None:
        self.saved = self.trainer.dump_checkpoint()["state_dict"]["norm.running_mean"].tolist()

    def on_train_batch_end(self, batch_idx: int) -> None:
        if self.path and batch_idx == 1:
            self.means.append(self.norm.running_mean.tolist())
            self.trainer.save_checkpoint(self.path)


class Accumulating(Watched):
    """Trains by its running statistics, and saves in the middle of an accumulation group."""

    path = ""

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        return (self.layer(self.norm(batch)) + self.norm.running_mean.sum()).square().mean()

    def on_train_batch_end(self, batch_idx: int) -> None:
        if self.path and batch_idx == 2 and self.current_epoch == 0:
            self.trainer.save_checkpoint(self.path)


def trainer(**arguments: Any) -> Trainer:
    options: dict[str, Any] = {
        "accelerator": "cpu", "strategy": "ddp", "max_epochs": 2, "num_sanity_val_steps": 0, "logger": False,
        "enable_checkpointing": False, "enable_progress_bar": False, "enable_model_summary": False,
    }  # fmt: skip
    return Trainer(**(options | arguments))


def loader(batch_size: int = 2, **options: Any) -> Any:
    return DataLoader(Drawn(), batch_size=batch_size, **options)


def ended_by(module: Watched, data: Any, **arguments: Any) -> str:
    """Return with what a fit ends that has to fail."""
    try:
        trainer(**arguments).fit(module, data)
    except TrainkitError as error:
        return str(error)
    return "nothing"


def fitted(module: Watched, *data: Any, seed: int = 1, ckpt_path: str | None = None, **arguments: Any) -> Watched:
    seed_everything(seed)
    trainer(**arguments).fit(module, *data, ckpt_path=ckpt_path)
    return module


def told(module: Watched, data: Any) -> list[str]:
    """Return the warnings of a fit."""
    with warnings.catch_warnings(record=True) as found:
        warnings.simplefilter("always")
        fitted(module, data, max_epochs=1)
    return [str(each.message) for each in found if "first batch" in str(each.message)]


def plateau() -> float:
    fit = trainer(max_epochs=4)
    fit.fit(Plateau(), loader())
    return float(fit.optimizers[0].param_groups[0]["lr"])


def draws() -> dict[str, Any]:
    modules = {
        "one": fitted(Watched(), loader(shuffle=True)),
        "again": fitted(Watched(), loader(shuffle=True)),
        "with workers": fitted(Watched(), loader(shuffle=True, num_workers=1), max_epochs=1),
    }
    return {name: {"seen": module.seen, "drawn": module.drawn} for name, module in modules.items()}


def own_generator(rank: int) -> list[int]:
    generator = torch.Generator().manual_seed(rank)
    return [int(row[0]) for row in fitted(Watched(), loader(shuffle=True, generator=generator)).seen]


def buffers(folder: Path) -> dict[str, Any]:
    """Validate and save in manual optimization, and go on in the middle of an epoch."""
    validated = Manual()
    trainer(max_epochs=1).fit(validated, loader(), loader())
    saving = Manual()
    saving.path = str(folder / "own.ckpt")
    trainer(max_epochs=1).fit(saving, loader())
    goes_on = Manual()
    trainer(max_epochs=1).fit(goes_on, loader(), ckpt_path=saving.path)
    return {
        "validated": validated.means[1:],
        "saved": validated.saved,
        "when saved": saving.means[-1],
        "when resumed": goes_on.means[0],
    }


def within_a_group(folder: Path) -> list[list[float]]:
    """Return the weights of a run, and of one that goes on from the middle of a group."""
    whole, rest = Accumulating(), Accumulating()
    whole.path = str(folder / "group.ckpt")
    fitted(whole, loader(), accumulate_grad_batches=2)
    fitted(rest, loader(), seed=9, accumulate_grad_batches=2, ckpt_path=whole.path)
    return [module.layer.weight.flatten().tolist() for module in (whole, rest)]


def going_on_from_one_rank(folder: Path) -> list[float]:
    module = Watched()
    trainer().fit(module, loader(4), ckpt_path=folder / "alone.ckpt")
    return module.drawn


def main(folder: Path) -> None:
    rank = trainer().global_rank
    sharded = fitted(Watched(), DataLoader(ShardedIterable(Stream()), batch_size=2), max_epochs=1)
    shares = Watched()
    trainer(limit_val_batches=0.5).validate(shares, loader(3), verbose=False)
    results = {
        "other rate": ended_by(OtherRate(), loader()),
        "other update": ended_by(OtherUpdate(), loader()),
        "too few": ended_by(Watched(), loader(10, drop_last=True)),
        "plateau": plateau(),
        "draws": draws(),
        "own generator": own_generator(rank),
        "buffers": buffers(folder),
        "within a group": within_a_group(folder),
        "going on": going_on_from_one_rank(folder),
        "stream": told(Watched(), DataLoader(Stream(), batch_size=2)),
        "sharded": [int(row[0]) // 4 for row in sharded.seen],
        "validated batches": len(shares.means),
        "predicted": trainer().predict(Watched(), loader(3, shuffle=False, drop_last=False)),
        "first predicted": trainer(limit_predict_batches=2).predict(Watched(), loader(3)),
    }
    torch.save(results, folder / f"rank_{rank}.pt")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
