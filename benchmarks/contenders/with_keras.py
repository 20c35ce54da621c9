"""Keras on torch, with its own layers: the MLP only."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

os.environ["KERAS_BACKEND"] = "torch"

import keras  # the backend is chosen when it is imported
from torch.utils.tensorboard import SummaryWriter

from benchmarks import tasks
from benchmarks.job import Job, Unsupported

DISTRIBUTION = "keras"
IMPORT = "import os; os.environ['KERAS_BACKEND'] = 'torch'; import keras"


class Empty(keras.callbacks.Callback):
    def on_train_batch_begin(self, batch: int, logs: Any = None) -> None:
        pass

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        pass


class Curve(keras.callbacks.Callback):
    """Writes the loss for TensorBoard; Keras' own callback needs TensorFlow."""

    def __init__(self, folder: str) -> None:
        super().__init__()
        self.writer = SummaryWriter(folder)

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        if batch % 50 == 0:
            self.writer.add_scalar("loss", logs["loss"], batch)

    def on_train_end(self, logs: Any = None) -> None:
        self.writer.close()


def fit(job: Job) -> None:
    """Do ``job``."""
    job.refuse(
        compiled="no compiled step",
        metrics="no log() in a step",
        real="measured without clipping",
        stream="needs a length",
    )
    if job.task is not tasks.MLP or job.device != "cpu":
        raise Unsupported("has layers of its own: measured with the MLP, on the CPU")
    layers = [keras.Input((64,)), keras.layers.Dense(64, activation="relu"), keras.layers.Dense(10)]
    model = keras.Sequential(layers)
    model.compile(
        keras.optimizers.SGD(0.01, gradient_accumulation_steps=job.accumulate if job.accumulate > 1 else None),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
    )
    callbacks: list[Any] = [Empty() for _ in range(job.callbacks)]
    if job.folder is not None:
        callbacks += [
            Curve(job.folder),
            keras.callbacks.ModelCheckpoint(os.path.join(job.folder, "model.keras")),
        ]
    model.fit(
        _without_end(job.batches),
        steps_per_epoch=len(job.batches),
        epochs=job.epochs,
        validation_data=None if job.val_batches is None else _without_end(job.val_batches),
        validation_steps=None if job.val_batches is None else len(job.val_batches),
        callbacks=callbacks,
        verbose=0 if job.folder is None else 1,
    )


def _without_end(batches: Any) -> Iterator[Any]:
    while True:
        yield from batches
