"""All that a loop needs, chosen when a call of the Trainer begins, and what it notes while it runs.

======================  ==================================================  ==========================================
what                    lives in                                            is written by
======================  ==================================================  ==========================================
counters                ``run.progress`` (the Trainer's, over all fits)     ``loops/``; a checkpoint (``run_state.py``)
the accumulation group  ``run.accumulation``                                steps; its schedule also by the callback
what was logged         ``run.metrics`` (the Trainer's)                     ``self.log``; phases by ``loops/``
who asked for a stop    ``run.stop_signal`` (the call's)                    signals; ``trainer.should_stop``
place in the data       the call's ``data``, in each loader's cursors       loaders, as batches are taken
optimizers, schedulers  ``run.optimizers``, ``run.schedulers``              steps; some callbacks exchange them
======================  ==================================================  ==========================================
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any, cast

import torch
from torch import Tensor

from trainkit.checkpoint.absent_plugins import Absent
from trainkit.hooks.bound import BoundHooks
from trainkit.hooks.due import DueHook
from trainkit.interval import Interval
from trainkit.loops.accumulation import Accumulation
from trainkit.loops.agreement import Agreement
from trainkit.loops.cadence import Cadence
from trainkit.loops.exchange import GradientExchange
from trainkit.loops.forgotten_zero_grad import GradientWatch
from trainkit.loops.learned import LearningWatch
from trainkit.loops.limits import Clock, Limits
from trainkit.loops.rows import Rows
from trainkit.loops.stop import StopSignal
from trainkit.loops.wrapped_optimizer import WrappedOptimizer
from trainkit.metrics.collector import MetricCollector
from trainkit.module import TrainModule
from trainkit.module.joint_optimizer import parts_of
from trainkit.module.modes import Flags
from trainkit.module.optimizer_modes import OptimizerModes
from trainkit.module.optimizers import SchedulerConfig, parameters_of
from trainkit.precision.base import Precision
from trainkit.progress import Progress
from trainkit.reflection import overrides
from trainkit.strategies.base import Strategy
from trainkit.types import Batch, Phase, StepOutput


@dataclass(slots=True, kw_only=True)
class Run:
    """The parts that every loop asks, without knowing of what kind they are. A fit has more: `FitRun`.

    Attributes:
        transfer: Moves a batch to the device: ``(batch, dataloader_idx) -> batch``, with the user's transfer hooks.
        evaluation_steps: The module's steps: ``(batch, batch_idx, dataloader_idx) -> Any``, by the phase they are for.
        inference_mode: Whether evaluation runs under ``torch.inference_mode`` rather than ``torch.no_grad``.
        stop_signal: Who has asked the run to stop: a signal, or somebody through ``trainer.should_stop``.
        phase: What is running right now.
        flags: The flags and modes of the module outside of the evaluation that is running; None if none is.
        rng_outside: The random numbers outside of the sanity check; None where it is not running.
        optimizer_modes: Whether optimizers that have modes train or are evaluated; outside of a fit there are none.
        agreement: What all ranks do between two batches, at the same one.
    """

    module: TrainModule
    strategy: Strategy
    precision: Precision
    progress: Progress
    metrics: MetricCollector
    transfer: Callable[[Batch, int], Batch]
    evaluation_steps: dict[Phase, Callable[..., Any]]
    inference_mode: bool
    stop_signal: StopSignal
    phase: Phase
    flags: Flags | None = field(default=None, init=False)
    rng_outside: dict[str, Any] | None = field(default=None, init=False)
    optimizer_modes: OptimizerModes = field(default_factory=OptimizerModes, init=False)
    agreement: Agreement = field(init=False)

    def __post_init__(self) -> None:
        self.agreement = Agreement(self.strategy, self.progress, self.stop_signal)

    def evaluation_step(self) -> Callable[..., Any]:
        """The step of what is running right now."""
        return self.evaluation_steps[Phase.VALIDATE if self.phase == Phase.SANITY_CHECK else self.phase]


@dataclass(slots=True, kw_only=True)
class FitRun(Run):
    """What training needs besides a `Run`.

    Attributes:
        training_step: ``(batch, batch_idx) -> what the user's training_step returned``, through the strategy.
        optimizers: What ``configure_optimizers`` returned.
        schedulers: The schedulers that came with them.
        optimizer: What automatic optimization updates with: the one of them, or all joined.
        step_wrapped: ``(run, optimizer, closure)``: what ``step()`` of a wrapped optimizer does.
        accumulation: The group of batches that make one update.
        splits_batches: Whether a batch that does not fit into memory is computed in parts.
        limits: When training ends and when it validates.
        clock: The time spent training.
        compile_step: ``(run) -> step function``, if the whole step is to be compiled.
        is_resumed: Whether this fit continues from a checkpoint.
        is_tried: Whether everything is only tried, with few batches: then an epoch without an update is an error.
        unfinished_hook: The hook within which that checkpoint was saved, if plugins were still to be called in it.
        wrapped_optimizers: What ``module.optimizers()`` gives: each optimizer with a ``step`` that the run sees.
        is_alone: Whether no strategy has a say in a step: there is one process, and nothing of its own.
        is_plain: Whether, in this epoch, each batch makes an update and nothing is scaled or overridden.
        is_plain_on_ranks: The same, but for the strategy: ranks exchange gradients in each step.
        forward: ``training_step`` in the context of the precision, if that has one.
        is_last_batch: Whether the training batch that is under way, or was the newest, is the last of its epoch.
        next_check_batch: Before this many batches in all, nothing can be due: no validation, no end.
        sees_steps: Whether the module has made a step through a wrapped optimizer, and so makes all of them.
        counted_update: Whether an update of the running batch was counted.
        pending_update: Whether ``module.optimizer_step`` has made an update that is yet to be counted.
        exchange: When ranks average the gradients of manual optimization.
        gradient_watch: Whether manual optimization clears its gradients.
        learning: Whether updates come to anything.
        rows: Which updates have a row of metrics.
        counts_samples: Whether the samples of training batches are counted, as something goes by their number.
        has_equal_parts: Whether in this epoch all ranks have equally many samples in a batch.
        weight_of_batch: ``(batch_idx) -> float``: what this rank's mean counts in that of all ranks, in an epoch in
            which they have shares of different sizes; None where shares are equal.
        used_rates: With which rates the newest update was made, by optimizer and parameter group, where its batch is
            the last of an epoch or of the fit; None elsewhere, and where no scheduler sets rates.
        made_with: What the code gave, by names such as ``optimizer.lr``; what a checkpoint overrides is that of it.
        absent_plugins: The states of plugins that the checkpoint had and this fit has not, by their keys.
    """

    training_step: Callable[..., Any]
    optimizers: list[torch.optim.Optimizer]
    schedulers: list[SchedulerConfig]
    step_wrapped: Callable[..., Any]
    accumulation: Accumulation
    splits_batches: bool
    limits: Limits
    clock: Clock
    compile_step: Callable[[FitRun], Callable[..., StepOutput]] | None
    is_resumed: bool
    rows: Rows
    is_tried: bool = False
    unfinished_hook: DueHook | None = None
    wrapped_optimizers: list[torch.optim.Optimizer] = field(init=False)
    optimizer: torch.optim.Optimizer = field(init=False)
    is_alone: bool = field(default=False, init=False)
    is_plain: bool = field(default=False, init=False)
    is_plain_on_ranks: bool = field(default=False, init=False)
    forward: Callable[..., Any] = field(init=False)
    is_last_batch: bool = field(default=False, init=False)
    next_check_batch: float = field(default=0, init=False)
    sees_steps: bool = field(default=False, init=False)
    counted_update: bool = field(default=False, init=False)
    pending_update: bool = field(default=False, init=False)
    exchange: GradientExchange = field(init=False)
    gradient_watch: GradientWatch = field(default_factory=GradientWatch, init=False)
    learning: LearningWatch = field(default_factory=LearningWatch, init=False)
    counts_samples: bool = field(default=False, init=False)
    has_equal_parts: bool = field(default=False, init=False)
    weight_of_batch: Callable[[int], float] | None = field(default=None, init=False)
    used_rates: list[list[Tensor | float | None]] | None = field(default=None, init=False)
    made_with: dict[str, Any] = field(default_factory=dict, init=False)
    absent_plugins: dict[str, Absent] = field(default_factory=dict, init=False)
    _num_cadences: int = field(default=0, init=False)
    _has_own_backward: bool = field(default=False, init=False)
    _has_own_zero_grad: bool = field(default=False, init=False)

    def __post_init__(self) -> None:
        Run.__post_init__(self)  # `super()` knows nothing of a dataclass with slots
        self.exchange = GradientExchange(self.strategy)
        self.rows.follow(self.agreement)
        # What the module's class decides is asked for once: these questions would be asked at every step.
        self.replace_optimizers(self.optimizers)
        self.counts_samples = any(
            every is not None and every.unit == "samples" for every in (self.rows.every, self.limits.validate_every)
        )
        self.stop_signal.on_change = self.check_after_batch
        if self.strategy.is_distributed:
            self.strategy.ranks.meeting.on_call = self.check_after_batch
        self.stop_signal.is_whole = self.is_between_batches
        self._has_own_backward = overrides(self.module, "backward", TrainModule)
        self._has_own_zero_grad = overrides(self.module, "optimizer_zero_grad", TrainModule)

    def replace_optimizers(self, optimizers: list[torch.optim.Optimizer]) -> None:
        """Train with ``optimizers`` from now on."""
        self.optimizers = optimizers
        # Where nobody but the module makes updates there may be none, or several.
        if optimizers and self.module.automatic_optimization:
            (self.optimizer,) = optimizers
            self.optimizers = parts_of(optimizers)
        self.optimizer_modes = OptimizerModes(self.optimizers)
        self.wrapped_optimizers = [
            # It passes for its optimizer.
            cast(torch.optim.Optimizer, WrappedOptimizer(each, self.module, partial(self.step_wrapped, self, each)))
            for each in self.optimizers
        ]

    # What the user's module may do in its own way

    def zero_grad(self, batch_idx: int) -> None:
        """Clear the gradients, through an ``optimizer_zero_grad`` that the user overrode."""
        if self._has_own_zero_grad:
            self.module.optimizer_zero_grad(self.progress.epoch, batch_idx, self.wrapped_optimizers[0])
        else:
            self.optimizer.zero_grad()

    def backward(self, loss: Tensor) -> None:
        """Compute gradients, through the precision and a ``backward`` that the user overrode."""
        if self._has_own_backward:
            self.module.backward(self.precision.scale(loss))
        else:
            self.precision.backward(loss)

    # Epochs and updates

    def start_epoch(
        self,
        num_batches: int | None,
        *,
        has_equal_parts: bool = False,
        weight_of_batch: Callable[[int], float] | None = None,
    ) -> None:
        """Settle what holds for one epoch.

        Args:
            num_batches: Its batches; None if the loader does not know.
            has_equal_parts: As the attribute.
            weight_of_batch: As the attribute.
        """
        self.has_equal_parts, self.weight_of_batch = has_equal_parts, weight_of_batch
        self.is_last_batch = self.progress.is_last
        self.learning.start_epoch(self.optimizers, self.progress)
        self.limits.start_epoch(num_batches)
        self.accumulation.start_epoch(self.progress.epoch, num_batches)
        if not self.is_tried:
            self.accumulation.warn_if_never_full()
        self.forward = self._training_step_in_precision if self.precision.has_context else self.training_step
        self.is_alone = not self.strategy.is_distributed and not any(
            overrides(self.strategy, name, Strategy) for name in ("gradient_sync", "skips_step")
        )
        is_plain = self.accumulation.size == 1 and not self.accumulation.batches and self._has_plain_parts()
        self.is_plain = is_plain and self.is_alone
        is_alike = weight_of_batch is None and not overrides(self.strategy, "skips_step", Strategy)
        self.is_plain_on_ranks = is_plain and not self.is_alone and is_alike
        self.check_after_batch()

    def end_epoch(self) -> None:
        """Count an epoch whose end hooks were called, unless training has stopped in its middle."""
        # After a stop in mid-epoch the values stay: the epoch may be continued from here.
        self.metrics.end_phase(resumable=not self.progress.epoch_ended)
        self.learning.end_epoch(self.module, self.optimizers, self.progress, is_tried=self.is_tried)
        if self.progress.epoch_ended:
            self.progress.count_epoch()

    def count_update(self) -> None:
        """Count an update, once for a batch, however many manual optimization makes in it."""
        # A GAN steps two optimizers in a batch; global_step counts the batches in which something was updated.
        if not self.counted_update:
            self.progress.count_update()
            if not self.learning.has_gradients:
                self.learning.look(self.optimizers)
        self.counted_update = True

    def weights_version(self) -> int:
        """Return a number that is another one after an update; always 0 once all updates are seen without it."""
        if self.sees_steps:
            return 0
        return sum(parameter._version for optimizer in self.optimizers for parameter in parameters_of(optimizer))

    def has_unseen_update(self, before: int) -> bool:
        """Whether weights have changed since ``weights_version()`` was ``before``, past all wrapped optimizers."""
        # By an optimizer's own `second_step`, or by the `step` of one that was not asked for by `self.optimizers()`.
        return not self.sees_steps and self.weights_version() != before

    def is_between_batches(self) -> bool:
        """Whether a batch of the running pass is done; before the first one, hooks have run that would run again."""
        if self.phase is Phase.TRAIN:
            return self.progress.batch > 0
        return self.phase is Phase.SANITY_CHECK or self.progress.has_validated

    def agree_to_skip(self) -> None:
        """Have all ranks say that they leave out the rest of the epoch, as this one does.

        Raises:
            RankError: If only some do; the others would wait for their gradients forever.
        """
        if self.strategy.is_distributed:
            hook = "on_train_batch_start"
            who = " or ".join(self.strategy.ranks.watch.joined(hook))
            self.strategy.ranks.gather(None, why=f"{hook} of {who} returned -1, which all ranks have to do or none")

    # When something is due after a batch

    def check_after_batch(self) -> None:
        """Have `close_batch` called after the running batch: an epoch begins, or somebody has asked for a stop."""
        self.next_check_batch = 0

    def cadence(self, interval: Interval) -> Cadence:
        """Return what tells when something is due that goes by ``interval``. Asked for until training starts."""
        # Counted from the first batch on, and only where somebody asks.
        self.counts_samples = self.counts_samples or interval.unit == "samples"
        self._num_cadences += 1
        cadence = Cadence(interval, self.progress, self.strategy, f"cadence {self._num_cadences}")
        cadence.agreement = self.agreement
        return cadence

    def set_next_check(self) -> None:
        """Find out for how many batches nothing can be due, so that nothing is looked for after them."""
        self.next_check_batch = self.progress.total_batches + self.limits.quiet_batches(self.progress)
        # A signal may have come since it was looked for, or the wish of another rank.
        if self.stop_signal.asked or self.stop_signal.received or self.agreement.is_called:
            self.check_after_batch()

    # Five questions about the end of training, and who asks them:
    #   has_nothing_to_do  `fit`, ahead of everything: is there not even a hook to finish?
    #   is_done            `fit`, between two epochs: is training over?
    #   stops_here         `close_batch`: does it end behind this batch, in the middle of an epoch?
    #   stops_now          the others: has somebody asked for an end, or is time up?
    #   ends_with_epoch    plugins, within the last hooks of an epoch: is there no other one to come?

    def stops_now(self) -> bool:
        """Whether someone asked for an end, or time is up, and an end is allowed by now. All ranks must ask."""
        # Clocks of ranks differ, as all else may: one that left alone would leave the others waiting.
        agreed = self.agreement.settle(time_up=self.progress.elapsed_s >= self.limits.max_time_s)
        return (agreed.stop or agreed.time_up) and self.limits.stop_allowed(self.progress)

    def stops_here(self) -> bool:
        """Whether training ends after this batch. After the last batch of an epoch the end of that comes first."""
        return not self.progress.is_closing and (self.limits.reached(self.progress) or self.stops_now())

    def is_done(self) -> bool:
        """Whether training is over, between two epochs, or in the middle of one that was left."""
        # A resumed run may stand behind its last batch, with a validation or the end of the epoch still to come.
        return not self.progress.is_open and (self.limits.reached(self.progress) or self.stops_now())

    def ends_with_epoch(self) -> bool:
        """Whether training is over when the end hooks of the running epoch have been called."""
        progress, limits = self.progress, self.limits
        is_last = progress.epoch + 1 >= limits.max_epochs or progress.global_step >= limits.max_steps
        return progress.epoch_left or is_last or self.stops_now()

    def has_nothing_to_do(self) -> bool:
        """Whether a fit has nothing to do, not even to call hooks that a stop has left to be called."""
        return self.is_done() and self.unfinished_hook is None and not self.progress.validation_ending

    def validation_due(self) -> bool:
        """Whether to validate now, between two batches: by count, by time, or because the run is about to stop.

        All ranks must ask, and at the same batch: what goes by a clock is agreed between them.
        """
        limits, progress = self.limits, self.progress
        # A resumed run may have validated after this very batch already.
        if not limits.validate or progress.validated_batch == progress.batch:
            return False
        if progress.in_validation:
            return True
        every = limits.validate_every
        if every is None or every.unit != "seconds":
            return limits.validation_due(progress) or self.stops_now()
        is_time = self.clock.since_validation_s() >= every.size
        return self.agreement.settle(validate=is_time).validate or self.stops_now()

    def _training_step_in_precision(self, batch: Batch, batch_idx: int) -> Any:
        with self.precision.autocast():
            return self.training_step(batch, batch_idx)

    def _has_plain_parts(self) -> bool:
        """Whether no part changes what the plain case of `optimize.step` leaves out."""
        changeable = (
            (self.module, TrainModule, ("backward", "optimizer_step", "optimizer_zero_grad")),
            (self.precision, Precision, ("scale", "backward", "unscale", "update")),
        )
        overridden = (overrides(part, name, base) for part, base, names in changeable for name in names)
        return not any(overridden)


Step = Callable[[FitRun, BoundHooks, Batch, int, bool], StepOutput]
"""What happens to one batch: ``(run, hooks, batch, batch_idx, is_last) -> outputs``.

Every step resets ``run.counted_update``, calls ``hooks.around_training_step``, and returns what plugins get, detached,
or an empty dict if the batch was skipped. One that updates also lets all ranks skip alike (``strategy.skips_step``),
counts the batch in ``run.accumulation``, closes the group where that is due, and counts the update
(``run.count_update``).
"""
