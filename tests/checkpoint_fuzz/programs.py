"""Programs whose checkpoints are made wrong: together they have saved whatever a checkpoint may hold."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torchmetrics
from torch import nn
from torch.utils.data import DataLoader, IterableDataset, TensorDataset

import trainkit
from trainkit.callbacks import (
    BackboneFinetuning,
    EarlyStopping,
    EMAWeightAveraging,
    LearningRateMonitor,
    ModelCheckpoint,
    StochasticWeightAveraging,
    Timer,
)
from trainkit.loggers import CSVLogger
from trainkit.storage.files import read_checkpoint
from trainkit.testing import TinyModule, quiet_trainer

LIGHTNINGS = Path(__file__).parents[1] / "checkpoint" / "data"


def rows(count: int = 10) -> TensorDataset:
    generator = torch.Generator().manual_seed(0)
    return TensorDataset(torch.randn(count, 4, generator=generator), torch.ones(count, 2))


class Module(TinyModule):
    """Metrics, hyperparameters, a schedule by step."""

    def __init__(self, lr: float = 0.1) -> None:
        super().__init__(lr=lr)
        self.save_hyperparameters()
        self.mean = torchmetrics.MeanMetric()

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        loss = self.loss(batch)
        self.mean(loss.detach())
        self.log("loss", loss, on_step=True, on_epoch=True)
        self.log("mean", self.mean)
        return loss

    def validation_step(self, batch: Any, batch_idx: int, dataloader_idx: int = 0) -> None:
        self.log("val_loss", self.loss(batch))

    def configure_optimizers(self) -> Any:
        optimizer = torch.optim.AdamW(self.parameters(), lr=0.1)
        return [optimizer], [{"scheduler": torch.optim.lr_scheduler.StepLR(optimizer, 2), "interval": "step"}]


class Manual(Module):
    """Two optimizers, which the module steps itself."""

    def __init__(self) -> None:
        super().__init__()
        self.automatic_optimization = False

    def training_step(self, batch: Any, batch_idx: int) -> None:
        loss = self.loss(batch)
        self.manual_backward(loss)
        for optimizer in self.optimizers():
            optimizer.step()
            optimizer.zero_grad()
        self.log("loss", loss)

    def configure_optimizers(self) -> Any:
        return [
            torch.optim.SGD([each], lr=0.01, momentum=momentum)
            for momentum, each in zip((0.0, 0.9), self.parameters(), strict=True)
        ]


class Tuned(Module):
    """A backbone that is thawed later, and a schedule by the metric."""

    def __init__(self) -> None:
        super().__init__()
        self.backbone = nn.Linear(4, 4)

    def configure_optimizers(self) -> Any:
        optimizer = torch.optim.SGD([p for p in self.parameters() if p.requires_grad], lr=0.1, momentum=0.5)
        plateau = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, patience=0)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": plateau, "monitor": "val_loss"}}


class OfLightning(TinyModule):
    """That which wrote the files of Lightning."""

    def configure_optimizers(self) -> Any:
        optimizer = torch.optim.SGD(self.parameters(), lr=self.lr, momentum=0.9)
        return [optimizer], [torch.optim.lr_scheduler.StepLR(optimizer, 1, 0.5)]


class Data(trainkit.DataModule):
    """A data module with a state."""

    def __init__(self) -> None:
        super().__init__()
        self.given = 0

    def train_dataloader(self) -> Any:
        self.given += 1
        return DataLoader(rows(), 2, shuffle=True)

    def val_dataloader(self) -> Any:
        return DataLoader(rows(), 5)

    def state_dict(self) -> dict[str, Any]:
        return {"given": self.given}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.given = state_dict["given"] + 0


class Stream(IterableDataset[Any]):
    """Samples whose number nobody knows."""

    def __iter__(self) -> Iterator[Any]:
        return iter(rows())


class SeveralLoaders(Data):
    """A stream beside shuffled data, and two loaders to validate with."""

    def train_dataloader(self) -> Any:
        loaders = {"a": DataLoader(rows(), 2, shuffle=True), "b": DataLoader(Stream(), 2)}
        return trainkit.data.CombinedLoader(loaders, "min_size")

    def val_dataloader(self) -> Any:
        return [DataLoader(rows(), 5), DataLoader(rows(4), 2)]


class OfSeveral(Module):
    """Takes the batches of several loaders."""

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        loss = self.loss(batch["a"]) + self.loss(batch["b"])
        self.log("loss", loss, on_epoch=True)
        return loss


class Remembers:
    """A plugin of somebody else, which reads its state as it likes."""

    def __init__(self) -> None:
        self.seen: list[int] = []

    def on_train_batch_end(self, trainer: trainkit.Trainer) -> None:
        self.seen.append(trainer.global_step)

    def state_dict(self) -> dict[str, Any]:
        return {"seen": self.seen}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.seen = [number + 0 for number in state["seen"]]


@dataclass(frozen=True)
class Program:
    """What is fitted, and how.

    Attributes:
        module: Makes the module.
        data: Makes the data module.
        callbacks: Makes the callbacks.
        arguments: Of the Trainer, beside those that all have.
    """

    module: Callable[[], TinyModule] = Module
    data: Callable[[], trainkit.DataModule] = Data
    callbacks: Callable[[], list[Any]] = list
    arguments: tuple[tuple[str, Any], ...] = ()

    def trainer(self, folder: Path, *more: Any) -> trainkit.Trainer:
        return quiet_trainer(
            **{"max_epochs": 2, "log_every_n_steps": 1, "logger": CSVLogger()} | dict(self.arguments),
            enable_checkpointing=True,
            default_root_dir=folder,
            callbacks=[*self.callbacks(), *more],
        )


PROGRAMS = {
    "common": Program(
        callbacks=lambda: [
            ModelCheckpoint(monitor="val_loss", save_top_k=2, save_last=True),
            EarlyStopping("val_loss", patience=9),
            EMAWeightAveraging(decay=0.9),
            LearningRateMonitor(),
        ],
        arguments=(("accumulate_grad_batches", 2), ("gradient_clip_val", 1.0)),
    ),
    "manual": Program(Manual, callbacks=lambda: [Timer(duration="00:01:00:00"), Remembers()]),
    "loaders": Program(OfSeveral, SeveralLoaders, callbacks=lambda: [Remembers(), ModelCheckpoint(monitor="loss")]),
    "tuned": Program(Tuned, callbacks=lambda: [BackboneFinetuning(1)]),
    "averaged": Program(callbacks=lambda: [StochasticWeightAveraging(0.05, swa_epoch_start=1)]),
    "half": Program(arguments=(("precision", "16-mixed"),)),
    "lightning": Program(OfLightning, callbacks=lambda: [EarlyStopping("val/loss")], arguments=(("max_epochs", 3),)),
}


def make_checkpoints(program: Program, folder: Path) -> list[dict[str, Any]]:
    """Return what is saved in the midst of an epoch, within a validation, at the end of an epoch, and weights alone."""
    saved: list[dict[str, Any]] = []

    class Keeps:
        def keep(self, trainer: trainkit.Trainer, **how: bool) -> None:
            saved.append(copy.deepcopy(trainer.dump_checkpoint(**how)))

        def on_train_batch_end(self, trainer: trainkit.Trainer) -> None:
            if trainer.progress.total_batches == 3:
                self.keep(trainer)

        def on_validation_batch_end(self, trainer: trainkit.Trainer) -> None:
            if not trainer.sanity_checking and not saved[1:]:
                self.keep(trainer)

        def on_train_epoch_end(self, trainer: trainkit.Trainer) -> None:
            if not saved[2:]:
                self.keep(trainer)
                self.keep(trainer, weights_only=True)

    trainkit.seed_everything(0)
    program.trainer(folder, Keeps()).fit(program.module(), datamodule=program.data())
    return saved


def all_checkpoints(folder: Path) -> list[tuple[str, dict[str, Any]]]:
    """Return checkpoints of all programs, each with the name of its program."""
    made = [
        (name, each) for name in PROGRAMS if name != "lightning" for each in make_checkpoints(PROGRAMS[name], folder)
    ]
    return made + [("lightning", read_checkpoint(path)) for path in sorted(LIGHTNINGS.glob("lightning-*.ckpt"))]
