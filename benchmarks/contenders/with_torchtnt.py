"""torchtnt."""

from __future__ import annotations

from typing import Any

import torch
from torchtnt.framework.auto_unit import AutoUnit
from torchtnt.framework.callback import Callback
from torchtnt.framework.callbacks import DistributedCheckpointSaver, TQDMProgressBar
from torchtnt.framework.fit import fit as tnt_fit
from torchtnt.framework.state import State
from torchtnt.framework.train import train
from torchtnt.utils.loggers import TensorBoardLogger

from benchmarks.job import Job
from benchmarks.tasks import MAX_NORM, Batch, loss_of, schedule

DISTRIBUTION = "torchtnt"
IMPORT = "import torchtnt.framework.train"


class Unit(AutoUnit[Batch]):
    def __init__(self, job: Job) -> None:
        super().__init__(
            module=job.task.network(),
            device=torch.device(job.device),
            gradient_accumulation_steps=job.accumulate,
            precision=None if job.task.autocast is None else "bf16",
            clip_grad_norm=MAX_NORM if job.real else None,
            step_lr_interval="step",
        )
        self.task = job.task
        self.is_scheduled = job.real

    def compute_loss(self, state: State, data: Batch) -> tuple[torch.Tensor, Any]:
        return loss_of(self.module, data), None

    def configure_optimizers_and_lr_scheduler(self, module: torch.nn.Module) -> tuple[torch.optim.Optimizer, Any]:
        optimizer = self.task.configure(module)
        return optimizer, schedule(optimizer) if self.is_scheduled else None


class UsualUnit(Unit):
    def __init__(self, job: Job) -> None:
        super().__init__(job)
        self.logger = TensorBoardLogger(job.folder or "")

    def on_train_step_end(self, state: State, data: Batch, step: int, results: Any) -> None:
        if step % 50 == 0:
            self.logger.log("loss", results.loss.item(), step)


class Empty(Callback):
    def on_train_step_start(self, state: State, unit: Any) -> None:
        pass

    def on_train_step_end(self, state: State, unit: Any) -> None:
        pass


def fit(job: Job) -> None:
    """Do ``job``."""
    job.refuse(compiled="no compiled step", metrics="no log() in a step")
    callbacks: list[Callback] = [Empty() for _ in range(job.callbacks)]
    if job.folder is not None:
        callbacks += [TQDMProgressBar(), DistributedCheckpointSaver(job.folder, save_every_n_epochs=1)]
        train(UsualUnit(job), job.batches, max_epochs=job.epochs, callbacks=callbacks)
    elif job.val_batches is not None:
        tnt_fit(Unit(job), job.batches, job.val_batches, max_epochs=job.epochs, callbacks=callbacks)
    else:
        train(Unit(job), job.batches, max_epochs=job.epochs, callbacks=callbacks)
