"""All that a loop needs, chosen once when a run starts."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch

from trainkit.loops.limits import Limits
from trainkit.metrics.collector import MetricCollector
from trainkit.module import TrainModule
from trainkit.optim import SchedulerConfig
from trainkit.precision.base import Precision
from trainkit.progress import Progress
from trainkit.strategies.base import Strategy
from trainkit.types import Batch, Phase


@dataclass(slots=True)
class Run:
    """The parts of one run. The loops ask them; they never ask what kind they are.

    Attributes:
        training_step: ``(batch, batch_idx) -> what the user's training_step returned``, through the strategy.
        transfer: Moves a batch to the device: ``(batch, dataloader_idx) -> batch``, with the user's transfer hooks.
        accumulate_grad_batches: Batches per update, by the epoch from which it holds; ``{0: 1}`` is no accumulation.
        phase: What is running right now.
        should_stop: Someone asked the run to end.
    """

    module: TrainModule
    strategy: Strategy
    precision: Precision
    progress: Progress
    limits: Limits
    metrics: MetricCollector
    transfer: Callable[[Batch, int], Batch]
    training_step: Callable[..., Any]
    optimizers: list[torch.optim.Optimizer] = field(default_factory=list)
    schedulers: list[SchedulerConfig] = field(default_factory=list)
    accumulate_grad_batches: dict[int, int] = field(default_factory=lambda: {0: 1})
    phase: Phase | None = None
    should_stop: bool = False
