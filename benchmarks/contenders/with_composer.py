"""Composer."""

from __future__ import annotations

import logging
from typing import Any

import composer
from composer.core import DataSpec, Evaluator
from composer.loggers import TensorboardLogger
from composer.models import ComposerModel
from torch.nn.functional import cross_entropy

from benchmarks.job import Job
from benchmarks.tasks import Batch

DISTRIBUTION = "mosaicml"
IMPORT = "from composer import Trainer"


class Model(ComposerModel):
    def __init__(self, job: Job) -> None:
        super().__init__()
        self.names = job.metric_names
        self.network = job.task.network()

    def forward(self, batch: Batch) -> Any:
        return self.network(batch[0])

    def loss(self, outputs: Any, batch: Batch) -> Any:
        return cross_entropy(outputs.flatten(0, -2), batch[1].flatten())

    def eval_forward(self, batch: Batch, outputs: Any = None) -> Any:
        return self.forward(batch)

    def get_metrics(self, is_train: bool = False) -> dict[str, Any]:
        return {}


class Empty(composer.Callback):
    def batch_start(self, state: Any, logger: Any) -> None:
        pass

    def batch_end(self, state: Any, logger: Any) -> None:
        pass


def fit(job: Job) -> None:
    """Do ``job``."""
    job.refuse(
        compiled="no compiled step",
        metrics="no log() in a step",
        real="measured without clipping",
        stream="measured with a length",
        accumulate="splits a batch instead of adding several up",
    )
    logging.getLogger("composer").setLevel(logging.ERROR)
    model = Model(job)
    samples = job.task.batch()[0].shape[0]
    usual: dict[str, Any] = {}
    if job.folder is not None:
        usual = {
            "save_folder": job.folder,
            "save_interval": "1ep",
            "save_overwrite": True,
            "loggers": [TensorboardLogger(job.folder)],
        }
    trainer = composer.Trainer(
        model=model,
        train_dataloader=_spec(job.batches),
        eval_dataloader=None
        if job.val_batches is None
        else Evaluator(label="val", dataloader=_spec(job.val_batches), device_eval_microbatch_size=samples),
        optimizers=job.task.configure(model),
        max_duration=f"{job.epochs}ep",
        device=job.device if job.device == "cpu" else "gpu",
        precision="fp32" if job.task.autocast is None else "amp_bf16",
        device_train_microbatch_size=samples,
        callbacks=[Empty() for _ in range(job.callbacks)],
        progress_bar=job.folder is not None,
        **usual,
    )
    trainer.fit()
    trainer.close()


def _spec(batches: Any) -> DataSpec:
    return DataSpec(batches, get_num_samples_in_batch=lambda batch: batch[0].shape[0])
