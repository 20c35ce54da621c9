"""Programs that a run may be made of, drawn by chance: module, data, optimizers, schedules, callbacks, precision.

A program is plain data, so that it can be printed with a seed that fails; `make` turns it into objects.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import torch
from pytorch_optimizer import Lion, Muon
from schedulefree import AdamWScheduleFree, SGDScheduleFree
from torch import Tensor, nn
from torch.utils.data import DataLoader, SubsetRandomSampler
from torchmetrics import MeanMetric

import trainkit
from scripts.sweep_resume import SAMPLES, Samples, draw, make_loader, sample
from trainkit import callbacks
from trainkit.data import CombinedLoader
from trainkit.loggers import CSVLogger
from trainkit.testing import quiet_trainer

VAL_LOSS = "val/loss"


@dataclass(frozen=True, kw_only=True)
class Program:
    """What a run is made of. Each field is a name of something below, or an argument of the Trainer."""

    module: str
    data: str
    workers: int
    batches: int
    validation: str
    optimizer: str
    schedule: str
    callbacks: tuple[str, ...]
    precision: str
    trainer: tuple[tuple[str, Any], ...]
    epochs: int
    flags: str
    stops_at: int
    """The number of updates at which a plugin asks for the end; 0 for never."""


# The module


class Net(trainkit.TrainModule):
    """Draws in steps and hooks, has buffers and metrics, and logs in every way there is."""

    note: ClassVar[Callable[[str], None]] = print
    """Takes what a step has seen. Of the class, as a module may be copied and what writes to a file may not."""

    def __init__(self, program: Program) -> None:
        super().__init__()
        self.program = program
        self.automatic_optimization = program.module != "manual"
        self.backbone = nn.Sequential(nn.Linear(4, 6), nn.BatchNorm1d(6, momentum=0.3), nn.Dropout(0.3))
        self.head = nn.Linear(6, 2)
        self.mean = MeanMetric()

    def train_dataloader(self) -> Any:
        length = SAMPLES - 3 * self.current_epoch
        return DataLoader(Samples(), 3, sampler=SubsetRandomSampler(range(length)), num_workers=self.program.workers)

    def loss(self, batch: Any) -> Tensor:
        x, indices = _joined(batch)
        Net.note(f"samples {sorted(indices.tolist())}")
        # BatchNorm needs two samples.
        out = self.head(self.backbone(torch.cat([x, x.flip(-1)])))
        return out.square().mean() + 0.1 * self.head.weight.square().sum()

    def training_step(self, batch: Any, batch_idx: int) -> Tensor | None:
        loss = self.loss(batch)
        self.log("train/loss", loss, on_step=True, on_epoch=True)
        self.log("train/largest", loss, reduce_fx="max", on_epoch=True, on_step=False)
        self.mean(loss.detach().float())
        self.log("train/mean", self.mean, on_step=False, on_epoch=True)
        if self.automatic_optimization:
            return loss
        self._step_by_hand(loss, batch_idx)
        return None

    def _step_by_hand(self, loss: Tensor, batch_idx: int) -> None:
        """Step one of two optimizers, in turns, each with the gradients of two batches."""
        optimizers = self.optimizers()
        optimizers = optimizers if isinstance(optimizers, list) else [optimizers]
        self.manual_backward(loss)
        if batch_idx % 2:
            optimizer = optimizers[batch_idx // 2 % len(optimizers)]
            optimizer.step()
            optimizer.zero_grad()
        if self.trainer.is_last_batch and self.program.schedule not in ("none", "plateau"):
            for scheduler in _as_list(self.lr_schedulers()):
                scheduler.step()

    def validation_step(self, batch: Any, batch_idx: int, dataloader_idx: int = 0) -> None:
        x, _ = _joined(batch)
        self.log(VAL_LOSS, self.head(self.backbone(x + torch.rand(4, dtype=x.dtype))).square().mean())
        self.log("val/first", x.float().mean(), on_step=True, on_epoch=True)

    def on_train_epoch_start(self) -> None:
        draw(self)
        if self.program.flags == "once" and self.current_epoch == 1:
            self.backbone[0].bias.requires_grad_(False)
            self.backbone[1].eval()

    def on_validation_start(self) -> None:
        draw(self)

    def on_train_epoch_end(self) -> None:
        draw(self)
        self.log("epoch/square", float(self.current_epoch**2))

    def configure_optimizers(self) -> Any:
        halves = [self.backbone.parameters(), self.head.parameters()]
        groups = halves if self.program.module == "manual" else [self.parameters()]
        optimizers = [OPTIMIZERS[self.program.optimizer]([*group]) for group in groups]
        make, interval = SCHEDULES[self.program.schedule]
        if make is None:
            return optimizers
        schedulers = [{"scheduler": make(optimizer), "interval": interval} for optimizer in optimizers]
        if self.program.schedule == "plateau":
            monitor = VAL_LOSS if self.program.validation != "several" else f"{VAL_LOSS}/dataloader_idx_0"
            monitor = "train/loss_epoch" if self.program.validation == "none" else monitor
            schedulers = [scheduler | {"monitor": monitor} for scheduler in schedulers]
        return optimizers, schedulers


def _joined(batch: Any) -> tuple[Tensor, Tensor]:
    """Return inputs and indices of a batch, or of those of several loaders."""
    if isinstance(batch, dict):
        batch = [each for each in batch.values() if each is not None]
    parts = [batch] if isinstance(batch[0], Tensor) else batch
    return torch.cat([x for x, _ in parts]), torch.cat([indices for _, indices in parts])


def _as_list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


OPTIMIZERS: dict[str, Callable[[Any], torch.optim.Optimizer]] = {
    "sgd": lambda parameters: torch.optim.SGD(parameters, 0.05, momentum=0.9, nesterov=True),
    "adam": lambda parameters: torch.optim.Adam(parameters, 0.02, amsgrad=True),
    "adamw": lambda parameters: torch.optim.AdamW(parameters, 0.02),
    "nadam": lambda parameters: torch.optim.NAdam(parameters, 0.02),
    "rmsprop": lambda parameters: torch.optim.RMSprop(parameters, 0.01, centered=True, momentum=0.5),
    "adagrad": lambda parameters: torch.optim.Adagrad(parameters, 0.05),
    "rprop": lambda parameters: torch.optim.Rprop(parameters, 0.01),
    "asgd": lambda parameters: torch.optim.ASGD(parameters, 0.05, t0=3),
    "schedule-free": lambda parameters: AdamWScheduleFree(parameters, 0.02, warmup_steps=3),
    "schedule-free sgd": lambda parameters: SGDScheduleFree(parameters, 0.1),
    "lion": lambda parameters: Lion(parameters, 0.002, weight_decay=0.1),
    "muon": lambda parameters: Muon([{"params": [each], "use_muon": each.ndim == 2} for each in parameters], lr=0.01),
    "lbfgs": lambda parameters: torch.optim.LBFGS(parameters, 0.1, max_iter=3, history_size=4),
}

_lr = torch.optim.lr_scheduler
SCHEDULES: dict[str, tuple[Callable[[Any], Any] | None, str]] = {
    "none": (None, ""),
    "step": (lambda optimizer: _lr.StepLR(optimizer, 3, 0.5), "step"),
    "epochs": (lambda optimizer: _lr.ExponentialLR(optimizer, 0.7), "epoch"),
    "cosine": (lambda optimizer: _lr.CosineAnnealingLR(optimizer, 9), "step"),
    "restarts": (lambda optimizer: _lr.CosineAnnealingWarmRestarts(optimizer, 5), "step"),
    "one_cycle": (lambda optimizer: _lr.OneCycleLR(optimizer, 0.05, total_steps=200, cycle_momentum=False), "step"),
    "warmup": (
        lambda optimizer: _lr.SequentialLR(
            optimizer, [_lr.LinearLR(optimizer, 0.1, total_iters=4), _lr.StepLR(optimizer, 2)], [4]
        ),
        "step",
    ),
    "plateau": (lambda optimizer: _lr.ReduceLROnPlateau(optimizer, factor=0.7, patience=0), "epoch"),
}


# The data


class Endless:
    """Batches of which nobody knows how many will come."""

    def __iter__(self) -> Any:
        for first in range(0, SAMPLES - 3, 3):
            samples = [sample(index) for index in range(first, first + 3)]
            yield [torch.stack([x for x, _ in samples]), torch.tensor([index for _, index in samples])]


KINDS_OF_SEVERAL = ("min_size", "max_size", "max_size_cycle", "sequential")
DATA = (
    *("map", "batch_sampler", "iterable", "stateful", "generator", "weighted", "persistent", "tensors", "several"),
    *("reloaded", "list", "endless"),
    *KINDS_OF_SEVERAL,
)


def train_loader(program: Program) -> Any:
    """Return the training loader, in the state in which a new process would have it."""
    if program.data == "list":
        return [
            [torch.arange(4.0) * index + torch.arange(3)[:, None] / 9, torch.arange(3) + 3 * index]
            for index in range(9)
        ]
    if program.data == "endless":
        return Endless()
    if program.data in KINDS_OF_SEVERAL:
        short = DataLoader(Samples(), 3, sampler=SubsetRandomSampler(range(12)))
        loaders = {"a": make_loader("map", program.workers), "b": short}
        return CombinedLoader(loaders, program.data)
    return make_loader(program.data, program.workers)


def val_loaders(program: Program) -> Any:
    """Return the validation loaders."""
    first = DataLoader(Samples(), 8)
    return {
        "none": None,
        "one": first,
        "shuffled": DataLoader(Samples(), 16, shuffle=True),
        "several": [first, DataLoader(Samples(), 20, num_workers=program.workers)],
    }[program.validation]


# The callbacks


def _monitored(program: Program) -> str:
    if program.validation == "none":
        return "train/loss_epoch"
    return f"{VAL_LOSS}/dataloader_idx_0" if program.validation == "several" else VAL_LOSS


CALLBACKS: dict[str, Callable[[Program], Any]] = {
    "best": lambda program: callbacks.ModelCheckpoint(monitor=_monitored(program), save_top_k=2),
    "best_named": lambda program: callbacks.ModelCheckpoint(
        monitor=_monitored(program), mode="max", filename="top-{epoch}-{train/loss_epoch:.3f}", save_last=True
    ),
    "newest": lambda program: callbacks.ModelCheckpoint(every_n_train_steps=2),
    "all": lambda program: callbacks.ModelCheckpoint(save_top_k=-1, filename="all-{step}", every_n_train_steps=3),
    "last_link": lambda program: callbacks.ModelCheckpoint(save_last="link", filename="linked-{step}"),
    "epoch_end": lambda program: callbacks.ModelCheckpoint(save_on_train_epoch_end=True, filename="end-{epoch}"),
    "validated": lambda program: callbacks.ModelCheckpoint(
        save_on_train_epoch_end=False, save_top_k=-1, filename="validated-{step}"
    ),
    "second_epochs": lambda program: callbacks.ModelCheckpoint(every_n_epochs=2, filename="second-{epoch}"),
    "beside": lambda program: callbacks.ModelCheckpoint(every_n_train_steps=2, filename="b-{step}", async_save=True),
    "early_stopping": lambda program: callbacks.EarlyStopping(_monitored(program), patience=1, check_finite=False),
    "early_stopping_train": lambda program: callbacks.EarlyStopping(
        "train/largest", patience=1, check_on_train_epoch_end=True, check_finite=False
    ),
    "lr_monitor": lambda program: callbacks.LearningRateMonitor(),
    "average": lambda program: callbacks.WeightAveraging(),
    "ema": lambda program: callbacks.EMAWeightAveraging(decay=0.8, update_every_n_steps=2),
    "swa": lambda program: callbacks.StochasticWeightAveraging(0.03, swa_epoch_start=1, annealing_epochs=2),
    "finetuning": lambda program: callbacks.BackboneFinetuning(
        unfreeze_backbone_at_epoch=1, backbone_initial_ratio_lr=0.2
    ),
    "accumulation": lambda program: callbacks.GradientAccumulationScheduler({0: 1, 1: 3}),
    "timer": lambda program: callbacks.Timer({"hours": 1}, verbose=False),
    "summary": lambda program: callbacks.ModelSummary(),
    "progress_bar": lambda program: callbacks.ProgressBar(),
}
_SAVING = ("best", "best_named", "newest", "all", "last_link", "epoch_end", "validated", "second_epochs", "beside")
_AVERAGING = ("average", "ema", "swa")
_OTHERS = tuple(name for name in CALLBACKS if name not in _SAVING + _AVERAGING)


# Drawing and making


def draw_program(chance: random.Random) -> Program:
    """Return a program that trains for two or three short epochs."""
    pick = chance.choice
    module = pick(("automatic", "automatic", "automatic", "manual"))
    data = pick(DATA)
    validation = pick(("none", "one", "one", "shuffled", "several"))
    saving = chance.sample(_SAVING, pick((1, 1, 1, 2)))
    averaging = [pick(_AVERAGING)] if chance.random() < 0.3 else []
    others = chance.sample(_OTHERS, pick((0, 1, 2, 3)))
    trainer: dict[str, Any] = {"log_every_n_steps": pick((1, 2, 5)), "num_sanity_val_steps": pick((0, 2))}
    if module == "automatic":
        trainer["accumulate_grad_batches"] = pick((1, 1, 2, 3)) if "accumulation" not in others else 1
        trainer["gradient_clip_val"] = pick((None, None, 0.5))
        trainer["gradient_clip_algorithm"] = pick((None, "value")) if trainer["gradient_clip_val"] else None
    cadence = chance.random()
    if cadence < 0.4:
        trainer["val_check_interval"] = pick((2, 3, 0.5))
    elif cadence < 0.5:
        trainer |= {"val_check_interval": 4, "check_val_every_n_epoch": None}
    elif cadence < 0.6:
        trainer["check_val_every_n_epoch"] = 2
    if data == "endless" and isinstance(trainer.get("val_check_interval"), float):
        del trainer["val_check_interval"]  # a share of an unknown length is refused
    if chance.random() < 0.2:
        trainer["max_steps"] = pick((5, 9))
    if chance.random() < 0.2:
        trainer["min_epochs"] = 2
    return Program(
        module=module,
        data=data,
        workers=pick((0,) * 9 + (2,)) if data not in ("list", "endless", "stateful", "tensors") else 0,
        batches=pick((4, 5, 6)),
        validation=validation,
        optimizer=pick([name for name in OPTIMIZERS if name != "lbfgs" or module == "automatic"]),
        # A schedule that is stepped by hand knows nothing of the groups that finetuning adds, and one that waits for a
        # metric needs it in every epoch.
        schedule=pick([name for name in SCHEDULES if _fits(name, module, others, trainer)]),
        callbacks=(*saving, *averaging, *others),
        precision=pick(("32-true",) * 4 + ("64-true", "bf16-mixed", "16-mixed", "bf16-true")),
        trainer=tuple(trainer.items()),
        epochs=pick((2, 3)),
        flags=pick(("none", "none", "once")),
        stops_at=pick((0, 0, 0, 3, 7)),
    )


def _fits(schedule: str, module: str, others: list[str], trainer: dict[str, Any]) -> bool:
    if schedule == "plateau":
        return trainer.get("check_val_every_n_epoch", 1) == 1
    return schedule == "none" or module == "automatic" or "finetuning" not in others


def make(program: Program, folder: Path, plugins: list[Any]) -> tuple[trainkit.Trainer, Net, Any, Any]:
    """Return Trainer, module, training and validation loaders, as a script would make them at its start."""
    trainer = quiet_trainer(
        max_epochs=program.epochs,
        limit_train_batches=program.batches,
        precision=program.precision,
        enable_checkpointing=True,
        default_root_dir=folder,
        logger=CSVLogger(flush_logs_every_n_steps=3),
        callbacks=[*(CALLBACKS[name](program) for name in program.callbacks), *plugins],
        reload_dataloaders_every_n_epochs=int(program.data == "reloaded"),
        **dict(program.trainer),
    )
    return trainer, Net(program), train_loader(program), val_loaders(program)
