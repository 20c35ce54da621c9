"""The built-in plugin that steps learning-rate schedulers."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, ClassVar, NotRequired, TypedDict

from torch import Tensor
from torch.optim import Optimizer

from trainkit.callbacks.builtin.schedule_lengths import warn_of_lengths
from trainkit.callbacks.monitor import missing_metric
from trainkit.callbacks.rates import rates_of
from trainkit.errors import MetricError
from trainkit.hooks.callback import Callback
from trainkit.hooks.manager import PluginStage
from trainkit.hooks.specs import hookimpl
from trainkit.loops.cadence import Cadence, Passed
from trainkit.module import TrainModule
from trainkit.module.optimizers import SchedulerConfig
from trainkit.output import warn
from trainkit.reflection import method_of, overrides
from trainkit.storage.schema import Count, takes
from trainkit.types import Stage

if TYPE_CHECKING:
    from trainkit.trainer import Trainer


class _State(TypedDict):
    """When schedulers were stepped last, and by what."""

    seen_step: NotRequired[Count | None]
    awaits_validation: NotRequired[bool]
    used_versions: NotRequired[dict[Count, Count]]
    seen: NotRequired[dict[Count, dict[str, float]]]
    pending: NotRequired[dict[Count, Passed]]


class LRSchedulers(Callback):
    """Steps every scheduler that ``configure_optimizers`` returned, as its ``interval`` and ``frequency`` say.

    ========  =======================================================================================================
    "step"    after every ``frequency``-th update of the whole run, ahead of every other ``on_train_batch_end``
    "epoch"   after the last batch of every ``frequency``-th epoch; an epoch that ends early does not count
    ========  =======================================================================================================

    With ``every`` they step once for each multiple that the count has come to: of epochs at the end of one, of all else
    behind the next update, ahead of which no rate is used.

    Schedulers that need a metric (``ReduceLROnPlateau``) are stepped after the validation that is due at that time, if
    one is; the others before it. They are not stepped twice with one value, but only where the metric has got another
    one, and not ahead of the first validation of a fit, where it has none yet. On several ranks the value of rank 0
    decides for all. With manual optimization the user steps all schedulers.
    """

    # In on_validation_end and on_train_epoch_end: after metrics are reduced, and before checkpoints are saved, which
    # have to contain the learning rate of the next step.
    stage: ClassVar[PluginStage] = "decide"

    def __init__(self) -> None:
        self._configs: list[SchedulerConfig] = []
        self._follows_updates = False
        self._seen_step: int | None = None
        self._awaits_validation = False  # whether schedulers that need a metric step after the validation that is due
        self._awaits_epoch = False  # whether those by epoch have yet to step in the running one, after its last batch
        self._used_versions: dict[int, int] = {}  # by the place of the scheduler: the value it was stepped with last
        self._warned: set[str] = set()
        self._cadences: dict[int, Cadence] = {}  # by the place of the scheduler, of those with `every`
        self._seen: dict[int, dict[str, float]] = {}
        self._pending: dict[int, int] = {}  # by the same, how many steps are due
        self._awaits_first = False  # whether the fit has yet to make its first validation

    def on_train_start(self, trainer: Trainer, module: TrainModule) -> None:
        # The list itself, not a copy: a callback that replaces the schedulers in mid-run empties it.
        self._configs = trainer.lr_scheduler_configs if module.automatic_optimization else []
        self._follows_updates = any(config.interval == "step" for config in self._configs)
        # A checkpoint may have been saved between an update and this plugin's turn to see it.
        if not trainer.fit_run.is_resumed or self._seen_step is None:
            self._seen_step = trainer.global_step
        if not trainer.fit_run.is_resumed:
            self._used_versions, self._seen, self._pending = {}, {}, {}
        self._cadences = {
            place: trainer.fit_run.cadence(every)
            for place, config in enumerate(self._configs)
            if (every := config.counts()) is not None
        }
        for place, cadence in self._cadences.items():
            cadence.load_state_dict(self._seen.get(place, {}))
        self._awaits_first = any(trainer.num_val_batches)
        if self._configs and trainer.is_global_zero and not overrides(module, "lr_scheduler_step", TrainModule):
            warn_of_lengths(trainer)

    # First of all plugins: schedulers step between the update and everybody's on_train_batch_end, as in Lightning.
    @hookimpl(tryfirst=True)
    def on_train_batch_end(self, trainer: Trainer, module: TrainModule) -> None:
        run = trainer.fit_run
        ends = run.is_last_batch or run.progress.global_step >= run.limits.max_steps
        run.used_rates = _copies(run.optimizers) if ends and self._configs else None
        if self._follows_updates:
            self._step_after_update(trainer, module)
        else:
            self._seen_step = trainer.global_step
        # Ahead of the validation that may follow, as in Lightning. Those that need its metric: on_train_epoch_end.
        self._awaits_epoch = not run.is_last_batch
        if not self._awaits_epoch:
            self._step("epoch", trainer, module, by_metric=False)

    def on_validation_end(self, trainer: Trainer, module: TrainModule) -> None:
        # Only a validation of the fit, and not one of trainer.validate().
        self._awaits_first = self._awaits_first and trainer.state.fn != Stage.FIT
        if self._awaits_validation and trainer.state.fn == Stage.FIT:
            self._awaits_validation = False
            self._step("step", trainer, module, by_metric=True)

    def on_train_epoch_end(self, trainer: Trainer, module: TrainModule) -> None:
        # Where the epoch ended early, the update of the open accumulation group came after the last on_train_batch_end.
        self._step_after_update(trainer, module)
        if trainer.is_last_batch:
            # It was not known to be the last one in its own hook, where the loader ended before its length.
            if self._awaits_epoch:
                self._awaits_epoch = False
                self._step("epoch", trainer, module, by_metric=False)
            self._step("epoch", trainer, module, by_metric=True)

    def state_dict(self) -> dict[str, Any]:
        """Return behind what schedulers were stepped last, what more of them await, and by what values."""
        return {
            "seen_step": self._seen_step,
            "awaits_validation": self._awaits_validation,
            "awaits_epoch": self._awaits_epoch,
            "used_versions": dict(self._used_versions),
            "seen": {place: cadence.state_dict() for place, cadence in self._cadences.items()},
            "pending": dict(self._pending),
        }

    @takes(_State)
    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what `state_dict` returned."""
        self._seen_step = state.get("seen_step")
        self._awaits_validation = state.get("awaits_validation", False)
        self._awaits_epoch = state.get("awaits_epoch", False)
        self._used_versions = dict(state.get("used_versions", {}))
        self._seen, self._pending = dict(state.get("seen", {})), dict(state.get("pending", {}))

    def _step_after_update(self, trainer: Trainer, module: TrainModule) -> None:
        step = trainer.global_step
        # No new update since: the batch was accumulated or skipped.
        if step == self._seen_step:
            return
        self._seen_step = step
        needs_metric = self._step("step", trainer, module, by_metric=False)
        # Whether a validation is due may be a collective, so it is asked only where a scheduler depends on the answer.
        if needs_metric:
            self._awaits_validation = trainer.fit_run.validation_due()
            if not self._awaits_validation:
                self._step("step", trainer, module, by_metric=True)

    def _step(self, interval: str, trainer: Trainer, module: TrainModule, *, by_metric: bool) -> bool:
        """Step those that are due, of those that need a metric or of the others; return whether some are left."""
        # Counted over the whole run, so that a resumed run steps at the same updates as an unbroken one.
        count = trainer.global_step if interval == "step" else trainer.current_epoch + 1
        has_others = False
        for place, config in enumerate(self._configs):
            if config.interval != interval or not (config.every or count % config.frequency == 0):
                continue
            times = self._times_due(place) if config.every else 1
            if config.reduce_on_plateau is not by_metric:
                has_others = has_others or times > 0
                continue
            self._pending.pop(place, None)
            metric = None
            if by_metric and times:
                # A value is used once, however much has passed since the one before it.
                metric = self._agreed_value(config, trainer)
                times = int(metric is not None)
            for _ in range(times):
                method_of(module, "lr_scheduler_step", TrainModule)(config.scheduler, metric)
        return has_others

    def _times_due(self, place: int) -> int:
        """Return how often a scheduler that goes by ``every`` is to step; it may have to wait for its metric."""
        cadence = self._cadences.get(place)
        if cadence is not None and (passed := cadence.passed()):
            self._pending[place] = self._pending.get(place, 0) + passed
        return self._pending.get(place, 0)

    def _agreed_value(self, config: SchedulerConfig, trainer: Trainer) -> Tensor | None:
        """Return the `_new_value` of rank 0: a metric that is not reduced would give each rank a rate of its own."""
        if not trainer.strategy.is_distributed or (config.monitor and trainer.metrics.is_shared(config.monitor)):
            return self._new_value(config, trainer)

        def value() -> Tensor | None:
            new = self._new_value(config, trainer)
            return None if new is None else new.cpu()  # it is sent to the others

        return trainer.strategy.agreed(value)

    def _new_value(self, config: SchedulerConfig, trainer: Trainer) -> Tensor | None:
        """Return what `_metric` does, or None if ``config`` was stepped with this very value before."""
        metric = self._metric(config, trainer)
        if metric is None or config.monitor is None:
            return None
        place, version = self._configs.index(config), trainer.metrics.version(config.monitor)
        used, self._used_versions[place] = self._used_versions.get(place), version
        return metric if version != used else None

    def _metric(self, config: SchedulerConfig, trainer: Trainer) -> Tensor | None:
        """Return the newest value of the metric that ``config`` monitors.

        Returns:
            None if it has not been logged and a validation is still to come; with one warning if none is, and
            ``strict`` is False.

        Raises:
            MetricError: If it has not been logged by the end of the first validation, and ``strict`` is True.
        """
        assert config.monitor is not None, "configure_optimizers was checked for it"
        metrics = trainer.callback_metrics
        # It may be of a validation that is made every few epochs.
        is_missing = config.monitor not in metrics and not self._awaits_first
        if is_missing and (config.strict or config.monitor not in self._warned):
            where = f"{type(config.scheduler).__name__} (interval {config.interval!r})"
            message = missing_metric(config.monitor, metrics, where, trainer.metrics)
            if config.strict:
                raise MetricError(message)
            self._warned.add(config.monitor)
            warn(f"{message}\nIt is not stepped.")
        return metrics.get(config.monitor)


def _copies(optimizers: Iterable[Optimizer]) -> list[list[Tensor | float | None]]:
    """Return the rates of all groups as they are now: schedulers write into tensors."""
    return [[rate.clone() if isinstance(rate, Tensor) else rate for rate in rates_of(each)] for each in optimizers]
