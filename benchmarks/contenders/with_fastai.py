"""fastai."""

from __future__ import annotations

import os
from functools import partial
from types import SimpleNamespace
from typing import Any

import torch
from fastai.callback.core import Callback
from fastai.callback.progress import ProgressCallback
from fastai.callback.tracker import SaveModelCallback
from fastai.learner import Learner
from fastai.optimizer import OptimWrapper
from torch.nn.functional import cross_entropy

from benchmarks.job import Job, Unsupported

DISTRIBUTION = "fastai"
IMPORT = "import fastai.learner"


class Empty(Callback):
    def before_batch(self) -> None:
        pass

    def after_batch(self) -> None:
        pass


class Loaders:
    """As much of fastai's DataLoaders as a Learner looks at."""

    def __init__(self, job: Job) -> None:
        self.train = job.batches
        self.valid = job.val_batches or []
        self.device = torch.device(job.device)
        self.path = job.folder or "."
        self.n_inp = 1
        for loader in (self.train, self.valid):
            if loader is not self.valid or job.val_batches is not None:
                loader.__dict__.setdefault("dataset", SimpleNamespace())
                loader.__dict__.setdefault("n_inp", 1)

    def __getitem__(self, index: int) -> Any:
        return (self.train, self.valid)[index]


def fit(job: Job) -> None:
    """Do ``job``."""
    job.refuse(
        compiled="no compiled step",
        metrics="no log() in a step",
        real="measured without clipping",
        stream="measured with a length",
        accumulate="counts samples until an update, not batches",
    )
    if job.task.autocast is not None:
        raise Unsupported("measured without autocast")
    network = job.task.network().to(job.device)
    optimizer, arguments = job.task.optimizer
    callbacks: list[Any] = [type(f"Empty{number}", (Empty,), {})() for number in range(job.callbacks)]
    if job.folder is not None:
        callbacks.append(SaveModelCallback(every_epoch=True))
    learner = Learner(
        Loaders(job),
        network,
        loss_func=lambda predicted, target: cross_entropy(predicted.flatten(0, -2), target.flatten()),
        opt_func=partial(OptimWrapper, opt=getattr(torch.optim, optimizer)),
        lr=arguments["lr"],
        path=job.folder or os.curdir,
        cbs=callbacks,
    )
    if job.folder is None:
        learner.remove_cbs([each for each in learner.cbs if isinstance(each, ProgressCallback)])
    learner.fit(job.epochs)
