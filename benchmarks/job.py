"""What a contender is asked to do."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from benchmarks.tasks import Task


class Unsupported(Exception):
    """A contender has nothing like what it is asked for; the message says what is missing."""


@dataclass(frozen=True)
class Job:
    """A training run. Whatever it does not ask for is to be switched off.

    Attributes:
        task: What to train.
        batches: The training batches, ready in memory: an iterable with a length.
        epochs: How often to go through them.
        val_batches: What to evaluate after each epoch; None for nothing.
        metrics: How many metrics to log in each step.
        callbacks: How many empty callbacks to call before and after each batch.
        accumulate: Batches per update.
        folder: Where to write, with everything switched on that people usually have: a progress bar with the loss,
            TensorBoard, a checkpoint after each epoch. None switches everything off.
        real: Whether gradients are clipped by their norm, and a schedule steps after each update.
        stream: Whether the batches come without a length, as from an ``IterableDataset``.
        compiled: Whether to compile the whole step.
        device: Where to train: "cpu" or "cuda".
        timing: Whether to measure where the time goes, with what the contender has for that.
        ranks: How many processes train together; more than one have joined a process group already.
    """

    task: Task
    batches: Any
    epochs: int = 1
    val_batches: Any = None
    metrics: int = 0
    callbacks: int = 0
    accumulate: int = 1
    folder: str | None = None
    real: bool = False
    stream: bool = False
    compiled: bool = False
    device: str = "cpu"
    timing: bool = False
    ranks: int = 1

    @property
    def metric_names(self) -> list[str]:
        """What to log the loss as."""
        return [f"metric_{index}" for index in range(self.metrics)]

    def refuse(self, **reasons: str) -> None:
        """Say why something cannot be done, if this job asks for it: ``job.refuse(compiled="no compiled step")``.

        Raises:
            Unsupported: With the first of the reasons that matters here.
        """
        nothing = {
            "metrics": 0,
            "callbacks": 0,
            "accumulate": 1,
            "compiled": False,
            "folder": None,
            "real": False,
            "stream": False,
            "val_batches": None,
        }
        for asked, reason in reasons.items():
            if getattr(self, asked) != nothing[asked]:
                raise Unsupported(reason)
