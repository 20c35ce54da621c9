"""What a training step costs, under various loads."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass, replace

import torch

from benchmarks import by_hand, tasks
from benchmarks.cases.case import Budget, Case
from benchmarks.contenders import Contender
from benchmarks.figures import Clock, Comparison
from benchmarks.job import Job, Unsupported
from benchmarks.tasks import Task
from benchmarks.turns import WARM_UP, Repeated, Stream, Turns


@dataclass(frozen=True, kw_only=True)
class StepCase(Case):
    """Microseconds a step.

    Attributes:
        size: Steps in a turn.
        per_epoch: Turns in an epoch.
        task: What is trained.
        metrics: See `Job`, as for all that follow.
        callbacks: Empty callbacks.
        accumulate: Batches per update.
        usual: Whether everything is switched on that people usually have.
        val_steps: Batches that are evaluated after each epoch.
        real: Whether gradients are clipped, and a schedule steps, as in most programs.
        stream: Whether the batches come without a length.
        compiled: Whether the contender compiles the whole step. The loop written by hand stays eager.
        device: Where.
    """

    unit: str = "us a step"
    size: int = 50
    per_epoch: int = 20
    task: Task = tasks.MLP
    metrics: int = 0
    callbacks: int = 0
    accumulate: int = 1
    usual: bool = False
    val_steps: int = 0
    real: bool = False
    stream: bool = False
    compiled: bool = False
    device: str = "cpu"

    def measure(self, contender: Contender, turns: int) -> dict[Clock, Comparison]:
        if self.device == "cuda" and not torch.cuda.is_available():
            raise Unsupported("needs a CUDA device")
        per_epoch = min(self.per_epoch, turns)
        batches = self._turns(per_epoch)
        with tempfile.TemporaryDirectory() as folder:
            contender.fit(
                Job(
                    self.task,
                    Stream(batches) if self.stream else batches,
                    epochs=-(-(turns + WARM_UP + 1) // per_epoch),  # the last turn of all stays open
                    val_batches=Repeated(batches.batch, self.val_steps) if self.val_steps else None,
                    metrics=self.metrics,
                    callbacks=self.callbacks,
                    accumulate=self.accumulate,
                    folder=folder if self.usual else None,
                    real=self.real,
                    stream=self.stream,
                    compiled=self.compiled,
                    device=self.device,
                )
            )
        return batches.comparison()

    def _turns(self, per_epoch: int) -> Turns:
        x, y = self.task.batch()
        batch = x.to(self.device), y.to(self.device)
        if self.val_steps:
            loop = by_hand.with_validation(self.task, batch, self.val_steps)
        elif self.real:
            loop = by_hand.real_loop(self.task, batch)
        else:
            loop = by_hand.training_loop(self.task, batch, accumulate=self.accumulate, device=self.device)
        synchronize = torch.cuda.synchronize if self.device == "cuda" else lambda: None
        return Turns(loop, batch, size=self.size, per_epoch=per_epoch, synchronize=synchronize)


BARE = StepCase(title="bare step", budget=Budget("difference", 5))
CASES: dict[str, Case] = {
    "bare": BARE,
    "usual": StepCase(
        title="step with progress bar, TensorBoard, log; a checkpoint every 1000",
        budget=Budget("difference", 25),
        size=1000,
        per_epoch=1,
        turns=20,
        usual=True,
    ),
    "real": replace(
        BARE,
        title="step with AdamW, clipping by norm, a schedule",
        budget=Budget("difference", 12),
        task=tasks.MLP_ADAMW,
        real=True,
    ),
    "bf16": replace(BARE, title="step in bf16-mixed", budget=Budget("difference", 12), task=tasks.MLP_BF16),
    "stream": replace(BARE, title="step on batches without a length", budget=Budget("difference", 10), stream=True),
    "log-1": replace(BARE, title="step that logs 1 metric", budget=Budget("difference", 5 + 5), metrics=1),
    "log-5": replace(BARE, title="step that logs 5 metrics", budget=Budget("difference", 5 + 5 * 5), metrics=5),
    "log-20": replace(BARE, title="step that logs 20 metrics", budget=Budget("difference", 5 + 20 * 5), metrics=20),
    "callbacks-5": replace(BARE, title="step with 5 empty callbacks", budget=None, callbacks=5),
    "callbacks-15": replace(BARE, title="step with 15 empty callbacks", budget=None, callbacks=15),
    "accumulate-4": replace(BARE, title="step, 4 batches per update", budget=None, size=48, accumulate=4),
    "validation": StepCase(
        title="step; 100 batches validated after each 200", size=200, per_epoch=1, turns=60, val_steps=100
    ),
    "convnet": StepCase(title="small ConvNet", budget=Budget("ratio", 1.01), size=1, task=tasks.CONVNET),
    "transformer": StepCase(title="small transformer", budget=Budget("ratio", 1.01), size=1, task=tasks.TRANSFORMER),
    "compiled-mlp": StepCase(
        title="whole step compiled, AdamW", budget=Budget("ratio", 0.5), task=tasks.MLP_ADAMW, compiled=True
    ),
    "compiled-transformer": StepCase(
        title="whole step compiled, small transformer",
        budget=Budget("ratio", 1.0),
        size=1,
        task=tasks.TRANSFORMER,
        compiled=True,
    ),
}
