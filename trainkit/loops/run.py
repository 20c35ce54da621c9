"""All that a loop needs, chosen once when a run starts."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from trainkit.errors import OptimizerError
from trainkit.loops.limits import NO_LIMIT, Clock, Limits
from trainkit.loops.stop import StopSignal
from trainkit.metrics.collector import MetricCollector
from trainkit.module import TrainModule
from trainkit.module.optimizers import SchedulerConfig
from trainkit.precision.base import Precision
from trainkit.progress import Progress
from trainkit.strategies.base import Strategy
from trainkit.types import Batch, Phase, StepOutput

TINY = torch.finfo(torch.float32).tiny


def _no_step(*arguments: Any) -> Any:
    raise AssertionError("a step was called that this run has not got")


@dataclass(slots=True)
class Run:
    """The parts of one run. The loops ask them, and never what kind they are.

    Attributes:
        transfer: Moves a batch to the device: ``(batch, dataloader_idx) -> batch``, with the user's transfer hooks.
        training_step: ``(batch, batch_idx) -> what the user's training_step returned``, through the strategy.
        evaluation_steps: The same for validation, test and prediction: ``(batch, batch_idx, dataloader_idx) -> Any``.
        accumulation: Batches per update, by the epoch from which each number holds; ``{0: 1}`` is no accumulation.
        accumulate: Batches per update in the running epoch.
        splits_batches: Whether a batch that does not fit into memory is computed in parts.
        num_batches: Batches of the running epoch; None if the loader does not know.
        group_divisor: What divides each loss of the open accumulation group; 0 if the losses are sums with weights.
        group_weight: The weights that ``training_step`` returned in the open group, added up.
        handles: What ``module.optimizers()`` gives, one per optimizer.
        backward: ``(loss) -> None``, through the precision and a ``backward`` that the user overrode.
        zero_grad: ``(batch_idx) -> None``, through an ``optimizer_zero_grad`` that the user overrode.
        compile_step: ``(run) -> step function``, if the whole step is to be compiled.
        inference_mode: Whether evaluation runs under ``torch.inference_mode`` rather than ``torch.no_grad``.
        phase: What is running right now.
        goes_on: Whether a checkpoint put it where it is, so that it has begun before.
        should_stop: Someone asked the run to end.
        stop_signal: The signal that asked the process to end, if one has.
        is_last_batch: Whether the training batch that is under way, or was the newest, is the last of its epoch.
        quiet_until: Before this many batches in all, nothing can be due: no validation, no end.
        stepped: Whether an optimizer made an update in the running batch.
        updated: Whether the ``optimizer_step`` that is running has made one, which is yet to be counted.
    """

    module: TrainModule
    strategy: Strategy
    precision: Precision
    progress: Progress
    limits: Limits
    clock: Clock
    metrics: MetricCollector
    transfer: Callable[[Batch, int], Batch]
    training_step: Callable[..., Any] = _no_step
    evaluation_steps: dict[Phase, Callable[..., Any]] = field(default_factory=dict)
    optimizers: list[torch.optim.Optimizer] = field(default_factory=list)
    schedulers: list[SchedulerConfig] = field(default_factory=list)
    accumulation: dict[int, int] = field(default_factory=lambda: {0: 1})
    accumulate: int = 1
    splits_batches: bool = False
    num_batches: int | None = None
    group_divisor: int = 1
    group_weight: float | Tensor = 0.0
    handles: list[torch.optim.Optimizer] = field(default_factory=list)
    backward: Callable[[Tensor], None] = Tensor.backward
    zero_grad: Callable[[int], None] = lambda batch_idx: None
    compile_step: Callable[[Run], Callable[..., StepOutput]] | None = None
    inference_mode: bool = False
    phase: Phase | None = None
    goes_on: bool = False
    should_stop: bool = False
    stop_signal: StopSignal = field(default_factory=StopSignal)
    is_last_batch: bool = False
    quiet_until: float = 0
    stepped: bool = False
    updated: bool = False

    def __post_init__(self) -> None:
        self.stop_signal.wake = self.look_around

    @property
    def optimizer(self) -> torch.optim.Optimizer:
        """The one optimizer of automatic optimization."""
        if len(self.optimizers) != 1:
            raise OptimizerError(f"this needs one optimizer, and configure_optimizers gave {len(self.optimizers)}.")
        return self.optimizers[0]

    def evaluation_step(self) -> Callable[..., Any]:
        """The step of what is running right now."""
        return self.evaluation_steps[
            Phase.VALIDATE if self.phase == Phase.SANITY_CHECK else self.phase or Phase.VALIDATE
        ]

    def ask_to_stop(self, asked: bool = True) -> None:
        """Ask for an end of training, or take that back."""
        self.should_stop = asked
        self.look_around()

    def look_around(self) -> None:
        """See after the running batch what is due."""
        self.quiet_until = 0

    def look_ahead(self) -> None:
        """Find out how long nothing will be due."""
        quiet = 0 if self.strategy.is_distributed else self.limits.quiet_batches(self.progress, self.num_batches)
        self.quiet_until = self.progress.total_batches + quiet
        # A signal may have come since it was looked for.
        if self.should_stop or self.stop_signal.received:
            self.look_around()

    def stops_now(self) -> bool:
        """Whether someone asked for an end, or time is up, and an end is allowed by now."""
        asked = self.should_stop
        if self.limits.max_time_s < NO_LIMIT:
            # Clocks of ranks differ: one that left alone would leave the others waiting.
            asked = self.strategy.any_rank(asked or self.progress.elapsed_s >= self.limits.max_time_s)
        return asked and self.limits.stop_allowed(self.progress)

    def is_done(self) -> bool:
        """Whether training is over. A validation that was cut short comes first, and the end of a whole epoch."""
        if self.progress.is_closing:
            return False
        return self.limits.reached(self.progress) or self.stops_now()

    def validation_due(self) -> bool:
        """Whether to validate now, between two batches: by count, by time, or because the run is about to stop."""
        limits, progress = self.limits, self.progress
        if not limits.validate or progress.validated_batch == progress.batch:
            return False
        if progress.in_validation:
            return True
        if limits.validate_every_s is None:
            return limits.validation_due(progress) or self.stops_now()
        return self.strategy.any_rank(self.clock.since_validation_s() >= limits.validate_every_s) or self.stops_now()

    def start_epoch(self, num_batches: int | None) -> None:
        """Settle what holds for one epoch."""
        self.is_last_batch = self.progress.is_last
        self.num_batches = num_batches
        self.limits.start_epoch(num_batches)
        self.quiet_until = 0
        self.accumulate = self.accumulation[max(epoch for epoch in self.accumulation if epoch <= self.progress.epoch)]

    def group_size(self, batch_idx: int) -> int:
        """How many batches the group of ``batch_idx`` is foreseen to have; the last one of an epoch may be short."""
        if self.accumulate == 1:
            return 1
        first = batch_idx - batch_idx % self.accumulate
        return self.accumulate if self.num_batches is None else min(self.accumulate, self.num_batches - first)

    def closes_group(self, batch_idx: int, is_last: bool) -> bool:
        """Whether the weights are due for an update after this batch."""
        return is_last or (batch_idx + 1) % self.accumulate == 0

    def open_group(self, batch_idx: int, *, weighted: bool) -> None:
        """Begin an accumulation group with ``batch_idx``, whose gradients are the first in it."""
        # Losses that are sums are divided by the group's whole weight, which is known when it closes.
        self.group_divisor = 0 if weighted else self.group_size(batch_idx)
        self.group_weight = 0.0

    def group_rescale(self) -> float | Tensor | None:
        """What the gathered gradients have to be multiplied with, so that every batch or sample weighs the same."""
        if self.group_divisor == 0:
            # The strategy has averaged over ranks; what is wanted is the sum, divided by the weight of all.
            weight = torch.as_tensor(self.group_weight, dtype=torch.float32, device=self.strategy.device)
            # A group of nothing but padding weighs nothing, and its gradients are zeros already.
            return self.strategy.world_size / self.strategy.all_reduce(weight).clamp_min(TINY)
        if self.group_divisor == self.progress.group_batches:
            return None
        return self.group_divisor / self.progress.group_batches

    def count_update(self) -> None:
        """Count an update; several in one batch, as manual optimization may make, count as one."""
        if not self.stepped:
            self.progress.count_update()
        self.stepped = True
