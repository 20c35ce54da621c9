"""What is measured: a step under various loads, in turns with the loop written by hand."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass, replace
from typing import Any

import torch

from benchmarks import tasks
from benchmarks.by_hand import training_loop, with_validation
from benchmarks.tasks import Task
from benchmarks.turns import Repeated, Turns


class Unsupported(Exception):
    """A contender has nothing like that."""


@dataclass(frozen=True)
class Job:
    """What a contender is asked to do.

    Attributes:
        task: What to train.
        batches: The training batches, ready in memory.
        epochs: How often to go through them.
        val_batches: What to evaluate after each epoch; None for nothing.
        metrics: How many metrics to log in each step.
        callbacks: How many empty callbacks to call before and after each batch.
        accumulate: Batches per update.
        folder: Where to write, with everything switched on that people usually have: a progress bar with the loss,
            TensorBoard, a checkpoint after each epoch. None switches everything off.
        compiled: Whether to compile the whole step.
        device: Where to train.
    """

    task: Task
    batches: Any
    epochs: int
    val_batches: Repeated | None = None
    metrics: int = 0
    callbacks: int = 0
    accumulate: int = 1
    folder: str | None = None
    compiled: bool = False
    device: str = "cpu"

    @property
    def metric_names(self) -> list[str]:
        """What to log the loss as."""
        return [f"metric_{index}" for index in range(self.metrics)]


@dataclass(frozen=True)
class Case:
    """A load, and how it is measured.

    Attributes:
        title: What it is called in reports.
        size: Steps in a turn.
        per_epoch: Turns in an epoch.
        task: What is trained.
        metrics: See `Job`.
        callbacks: See `Job`.
        accumulate: See `Job`.
        usual: Whether everything is switched on that people usually have.
        val_steps: Batches that are evaluated after each epoch.
        compiled: See `Job`.
        device: See `Job`.
    """

    title: str
    size: int = 50
    per_epoch: int = 20
    task: Task = tasks.MLP
    metrics: int = 0
    callbacks: int = 0
    accumulate: int = 1
    usual: bool = False
    val_steps: int = 0
    compiled: bool = False
    device: str = "cpu"

    def measure(self, contender: Any, turns: int) -> dict[str, Any]:
        """Let ``contender`` take about ``turns`` turns with the loop written by hand.

        Raises:
            Unsupported: If it has nothing like that.
        """
        per_epoch = min(self.per_epoch, turns)
        batches = self._turns(per_epoch)
        with tempfile.TemporaryDirectory() as folder:
            contender.fit(
                Job(
                    self.task,
                    batches,
                    epochs=-(-(turns + 1) // per_epoch),  # the last turn of all stays open
                    val_batches=Repeated(batches.batch, self.val_steps) if self.val_steps else None,
                    metrics=self.metrics,
                    callbacks=self.callbacks,
                    accumulate=self.accumulate,
                    folder=folder if self.usual else None,
                    compiled=self.compiled,
                    device=self.device,
                )
            )
        return batches.result()

    def _turns(self, per_epoch: int) -> Turns:
        x, y = self.task.batch()
        batch = x.to(self.device), y.to(self.device)
        if self.val_steps:
            by_hand = with_validation(self.task, batch, self.val_steps)
        else:
            by_hand = training_loop(self.task, batch, accumulate=self.accumulate, device=self.device)
        synchronize = torch.cuda.synchronize if self.device == "cuda" else lambda: None
        return Turns(by_hand, batch, size=self.size, per_epoch=per_epoch, synchronize=synchronize)


BARE = Case("bare step")
STEP_CASES = {
    "bare": BARE,
    "usual": Case("progress bar, TensorBoard, log, checkpoint", size=1000, per_epoch=1, usual=True),
    "log-1": replace(BARE, title="1 metric logged", metrics=1),
    "log-5": replace(BARE, title="5 metrics logged", metrics=5),
    "log-20": replace(BARE, title="20 metrics logged", metrics=20),
    "callbacks-5": replace(BARE, title="5 empty callbacks", callbacks=5),
    "callbacks-15": replace(BARE, title="15 empty callbacks", callbacks=15),
    "accumulate-4": replace(BARE, title="4 batches per update", size=48, accumulate=4),
    "validation": Case("100 batches validated after 200", size=200, per_epoch=1, val_steps=100),
    "convnet": Case("small ConvNet", size=1, task=tasks.CONVNET),
    "transformer": Case("small transformer", size=1, task=tasks.TRANSFORMER),
    "compiled-mlp": Case("whole step compiled, AdamW", task=tasks.MLP_ADAMW, compiled=True),
    "compiled-transformer": Case("whole step compiled, transformer", size=5, task=tasks.TRANSFORMER, compiled=True),
    "cuda-mlp": Case("MLP on a GPU", task=tasks.MLP_ADAMW, device="cuda"),
    "cuda-compiled-mlp": Case("MLP on a GPU, compiled", task=tasks.MLP_ADAMW, compiled=True, device="cuda"),
    "cuda-resnet50": Case("ResNet-50, bf16", size=5, task=tasks.RESNET50, device="cuda"),
    "cuda-gpt2": Case("GPT-2 size, bf16", size=5, task=tasks.GPT2, device="cuda"),
}
