"""PyTorch Lightning."""

from __future__ import annotations

import logging
import warnings
from typing import Any

import lightning.pytorch as lightning
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.loggers import TensorBoardLogger

from benchmarks.job import Job
from benchmarks.tasks import MAX_NORM, Batch, loss_of, schedule

DISTRIBUTION = "lightning"
IMPORT = "import lightning.pytorch"


class Module(lightning.LightningModule):
    def __init__(self, job: Job) -> None:
        super().__init__()
        self.task = job.task
        self.names = job.metric_names
        self.is_scheduled = job.real
        self.network = job.task.network()

    def training_step(self, batch: Batch, batch_idx: int) -> Any:
        loss = loss_of(self.network, batch)
        for name in self.names:
            self.log(name, loss)
        return loss

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        loss_of(self.network, batch)

    def configure_optimizers(self) -> Any:
        optimizer = self.task.configure(self)
        if not self.is_scheduled:
            return optimizer
        return [optimizer], [{"scheduler": schedule(optimizer), "interval": "step"}]


class UsualModule(Module):
    def training_step(self, batch: Batch, batch_idx: int) -> Any:
        loss = loss_of(self.network, batch)
        self.log("loss", loss, prog_bar=True)
        return loss


class Empty(lightning.Callback):
    def on_train_batch_start(self, trainer: Any, pl_module: Any, batch: Any, batch_idx: int) -> None:
        pass

    def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        pass


def trainer(job: Job) -> lightning.Trainer:
    common: dict[str, Any] = {
        "accelerator": job.device,
        "devices": job.ranks,
        "strategy": "ddp" if job.ranks > 1 else "auto",
        "max_epochs": job.epochs,
        "accumulate_grad_batches": job.accumulate,
        "precision": "32-true" if job.task.autocast is None else "bf16-mixed",
        "enable_model_summary": False,
        "num_sanity_val_steps": 0,
    }
    if job.real:
        common["gradient_clip_val"] = MAX_NORM
    callbacks: list[Any] = [Empty() for _ in range(job.callbacks)]
    if job.folder is not None:
        callbacks.append(ModelCheckpoint(every_n_epochs=1))
        return lightning.Trainer(**common, callbacks=callbacks, logger=TensorBoardLogger(job.folder))
    if not (job.metrics or job.val_batches or job.callbacks):
        return lightning.Trainer(**common, barebones=True)
    return lightning.Trainer(
        **common, callbacks=callbacks, logger=False, enable_checkpointing=False, enable_progress_bar=False
    )


def fit(job: Job) -> None:
    """Do ``job``."""
    job.refuse(compiled="no compiled step")
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    warnings.simplefilter("ignore")
    module = Module(job) if job.folder is None else UsualModule(job)
    trainer(job).fit(module, job.batches, job.val_batches)
