"""trainkit itself."""

from __future__ import annotations

from typing import Any

import torch

import trainkit
from benchmarks.job import Job
from benchmarks.tasks import MAX_NORM, Batch, loss_of, schedule
from trainkit.callbacks import ModelCheckpoint, TensorBoardLogger
from trainkit.data import TensorLoader

DISTRIBUTION = "trainkit"
IMPORT = "import trainkit; trainkit.Trainer"


class Module(trainkit.TrainModule):
    """Trains the network of a job, and logs its loss as often as that asks for."""

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
    """Shows its loss in the progress bar as well."""

    def training_step(self, batch: Batch, batch_idx: int) -> Any:
        loss = loss_of(self.network, batch)
        self.log("loss", loss, prog_bar=True)
        return loss


class Empty(trainkit.Callback):
    """Joins the two hooks of a batch and does nothing."""

    def __init__(self, number: int) -> None:
        self.name = f"empty_{number}"

    def on_train_batch_start(self, trainer: Any, module: Any, batch: Any, batch_idx: int) -> None:
        pass

    def on_train_batch_end(self, trainer: Any, module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        pass


def trainer(job: Job) -> trainkit.Trainer:
    """Return a Trainer for ``job``."""
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
    if job.timing:
        common["plugins"] = {"timing": True}
    if job.real:
        common["gradient_clip_val"] = MAX_NORM
    if job.compiled:
        common["compile"] = "step"
    callbacks: list[Any] = [Empty(number) for number in range(job.callbacks)]
    if job.folder is not None:
        logger = TensorBoardLogger(job.folder)
        callbacks.append(ModelCheckpoint(every_n_epochs=1))
        return trainkit.Trainer(**common, callbacks=callbacks, logger=logger, default_root_dir=job.folder)
    if not (job.metrics or job.val_batches):
        return trainkit.Trainer(**common, callbacks=callbacks, barebones=True)
    return trainkit.Trainer(
        **common, callbacks=callbacks, logger=False, enable_checkpointing=False, enable_progress_bar=False
    )


def fit(job: Job) -> None:
    """Do ``job``."""
    module = Module(job) if job.folder is None else UsualModule(job)
    trainer(job).fit(module, job.batches, job.val_batches)


def tensor_loader(*tensors: torch.Tensor, batch_size: int) -> TensorLoader:
    """Return a loader of shuffled batches of ``tensors``."""
    return TensorLoader(*tensors, batch_size=batch_size, shuffle=True)
