"""The collector of metrics takes the values of ``self.log``, phase by phase; ``logged.py`` has what is read of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NoReturn

import torch
from torch import Tensor, float32, nn

from trainkit.metrics.logged import LoggedValues
from trainkit.metrics.options import NOWHERE, Given, describe
from trainkit.metrics.phase import PhaseLog, refuse_place, unknown
from trainkit.metrics.ranks import Ranks
from trainkit.metrics.reduce import reduce_epoch, settle_metrics
from trainkit.metrics.running import Running, widest
from trainkit.metrics.scalars import Single, Value, as_number, as_scalar, as_weight, metric_value, refuse_complex
from trainkit.metrics.sharing import refuse_mixture
from trainkit.metrics.slots import EPOCH_HOOK, EVERY_LOADER, Slot, SlotSpec
from trainkit.metrics.torchmetrics import Metric, find_metrics, is_metric, load_state, state_of
from trainkit.types import Phase


class MetricCollector(LoggedValues):
    """Collects what is logged, in one `PhaseLog` for each running phase.

    A logged tensor is copied and stays on its device. A phase keeps one number per name, however many batches it has.
    Collectives are in `end_batches`, in `reduce_epoch_hook_values`, and in ``log`` where the value of a batch has
    ``sync_dist=True``; reading has none.

    Args:
        ranks: The collectives of this process; a `Strategy`.

    Attributes:
        may_log_outside_batches: Whether some plugin of this rank has a hook outside of batches, in which it could log.
    """

    def __init__(self, ranks: Ranks) -> None:
        super().__init__()
        self._ranks = ranks
        self._module: nn.Module | None = None
        self._closed_by: str | None = None  # where nothing can be logged, though a phase runs
        self._discards = False  # whether what is logged goes nowhere
        self._pads = False  # whether it is of a sample that counts in no value of the phase
        # Always the `current` slots of the innermost phase, kept here so that `log` finds a name in one look-up.
        self._slots: dict[str, Slot] = {}
        self.may_log_outside_batches: Callable[[Phase], bool] = lambda phase: True

    def log(
        self,
        name: str,
        value: Any,
        prog_bar: bool = False,
        logger: bool | None = None,
        on_step: bool | None = None,
        on_epoch: bool | None = None,
        reduce_fx: Any = "mean",
        sync_dist: bool | None = None,
        add_dataloader_idx: bool = True,
        batch_size: float | None = None,
        rank_zero_only: bool = False,
    ) -> None:
        """Collect one value; see `TrainModule.log`.

        Raises:
            MetricError: If the value or an option is not usable, or nothing can be logged at this place.
        """
        # A step logs the same names with the same options again and again: such a call skips all checks of options.
        given = (prog_bar, logger, on_step, on_epoch, reduce_fx, sync_dist, add_dataloader_idx, rank_zero_only)
        slot = self._slots.get(name) if isinstance(name, str) else None
        if slot is None or slot.given != given:
            slot = self._open(name, given, is_metric(value))
            refuse_complex(name, value)
        if isinstance(value, Tensor):
            if value.ndim:
                value = as_scalar(name, value)
            if value.dtype is float32 and value.is_cpu and type(value) is Tensor:
                value = Single(value.item())
            else:
                # Otherwise the tables would keep the autograd graph of the batch in memory.
                value = value.detach()
        elif slot.spec.is_metric:
            self._log_metric(slot, value, batch_size, on_step)
            return
        elif type(value) is not float:
            value = as_number(name, value)
        if slot.step_tables:
            # A copy, because the user may change the tensor in place before anybody reads it. `Running` needs none: it
            # adds the value to a total of its own.
            self._publish_step(slot, value.clone() if isinstance(value, Tensor) else value, batch_size)
        if slot.running is not None and not self._pads:
            slot.running.add(value, self._weight(slot, batch_size))
            # Callbacks may read it in the same hook, ahead of the reduction over ranks, so they get the local value.
            if slot.spec.place == EPOCH_HOOK:
                self._warn_if_late(slot)
                self._phases[-1].publish_epoch(slot, slot.value())

    # What loops call

    def begin_phase(self, phase: Phase, num_dataloaders: int = 1, *, resume: bool = False) -> None:
        """Collect for ``phase`` from now on; what is logged before the first batch counts for the whole phase.

        Does nothing if ``phase`` is running already.

        Args:
            phase: The phase that begins.
            num_dataloaders: How many loaders are evaluated in it.
            resume: Whether to continue with the values that the phase had when a checkpoint was saved in it, or when it
                was left. With another number of loaders it starts without values all the same.
        """
        # `fit` begins the training phase ahead of on_train_start, where values may be logged, and then for each epoch.
        if self._phases and self._phases[-1].phase is phase:
            return
        log = self._paused.pop(phase, None)
        if not resume or log is None or log.num_dataloaders != num_dataloaders:
            log = PhaseLog(phase, num_dataloaders, self._published)
        self._phases.append(log)
        self._slots = log.current
        # `results` are those of the newest evaluation: a training epoch has none that could replace them.
        if phase is not Phase.TRAIN:
            self._results = log.results

    def begin_batches(
        self,
        dataloader_idx: int = 0,
        known_samples: Callable[[], int | None] = unknown,
        *,
        accumulates: bool = False,
    ) -> PhaseLog:
        """Collect for the batches of one loader from now on.

        Args:
            dataloader_idx: The index of the loader.
            known_samples: Tells of how many samples the loader made its newest batch.
            accumulates: Whether several batches make an update, whose row has then the values of all of them.

        Returns:
            The log of the phase. The loop assigns each batch to its attribute ``batch``, from which the batch size is
            found if an epoch mean needs it.
        """
        phase = self._phases[-1]
        # The phase was left in the middle, with the value so far: at its end there is another one.
        if phase.is_reduced:
            phase.renew()
        if phase.place not in (EPOCH_HOOK, dataloader_idx):
            self._end_loader(phase)
            before = phase.metric_slots_of_loaders(range(dataloader_idx))
            phase.stashed.stash_earlier_loaders(slot.metric for slot in before if slot.metric is not None)
        self._stash_outer(phase)
        phase.enter(dataloader_idx)
        phase.group = (phase.group or {}) if accumulates else None
        phase.known_samples = known_samples
        self._slots = phase.current
        return phase

    def end_group(self) -> None:
        """End an accumulation group: what its batches logged for rows is reduced, as `TrainModule.log` was asked to."""
        self._phases[-1].end_group()

    def end_batches(self, note: Any = None) -> list[Any]:
        """Reduce what batches logged over the phase and over all ranks. Later values are logged for the whole phase.

        Collective: every rank must call it. It is one exchange of them, in which ``note`` goes along.

        Returns:
            The notes of all ranks, in their order.
        """
        phase = self._phases[-1]
        phase.end_group()
        if phase.num_dataloaders > 1 and phase.place != EPOCH_HOOK:
            self._end_loader(phase)
        phase.stashed.restore_unused(phase.metrics())
        phase.leave_batches()
        self._slots = phase.current
        slots = phase.epoch_slots(hooks=False)
        if self._ranks.world_size == 1:
            reduce_epoch(phase, slots, self._ranks)
            phase.is_reduced = True
            return [note]
        may_log = self.may_log_outside_batches(phase.phase)
        told = reduce_epoch(phase, slots, self._ranks, self._places(), (note, may_log))
        phase.is_reduced, phase.expects_hooks = True, any(may for _, may in told)
        return [each for each, _ in told]

    def end_phase(self, *, resumable: bool = False) -> None:
        """End the innermost phase; the one within which it ran, if any, collects again.

        Args:
            resumable: Whether to keep what was collected, torchmetrics objects too, for ``begin_phase(resume=True)``.
        """
        phase = self._phases.pop()
        if resumable:
            phase.pause()
            self._paused[phase.phase] = phase
        else:
            phase.reset_metrics()
        self._slots = self._phases[-1].current if self._phases else {}

    @contextmanager
    def silenced(self) -> Iterator[None]:
        """Return a context in which logging works as usual, and after which all its values are gone.

        For batches that are no part of the run, such as those of the sanity check.
        """
        tables = {name: dict(table) for name, table in self._published.tables().items()}
        versions = self._published.versions.state_dict()
        results, depth = self._results, len(self._phases)
        try:
            yield
        finally:
            self._published.replace(tables)
            self._published.versions.load_state_dict(versions)
            self._results = results
            # An exception may have left phases open.
            del self._phases[depth:]
            self._slots = self._phases[-1].current if self._phases else {}

    @contextmanager
    def closed(self, where: str) -> Iterator[None]:
        """Return a context in which nothing can be logged; ``where`` says in an error what it is."""
        before, self._slots, self._closed_by = (self._slots, self._closed_by), {}, where
        try:
            yield
        finally:
            self._slots, self._closed_by = before

    @contextmanager
    def discarding(self) -> Iterator[None]:
        """Return a context in which what is logged goes nowhere, and in which torchmetrics objects collect nothing.

        For a batch that is evaluated once more: it counts once.
        """
        before, self._slots, self._discards = (self._slots, self._discards), {}, True
        try:
            with self._metrics_kept():
                yield
        finally:
            self._slots, self._discards = before

    @contextmanager
    def padding(self) -> Iterator[None]:
        """Return a context for a batch that is no part of the phase: its values are those of a step, and of no epoch.

        For a rank that has no sample of its own, and takes part with another one. Its values may be exchanged.
        """
        self._pads = True
        try:
            with self._metrics_kept():
                yield
        finally:
            self._pads = False

    @contextmanager
    def _metrics_kept(self) -> Iterator[None]:
        """Return a context in which torchmetrics objects collect nothing."""
        metrics = find_metrics(self._module).values() if self._module is not None else ()
        held = [(metric, state_of(metric), metric._forward_cache) for metric in metrics]
        try:
            yield
        finally:
            for metric, state, value_of_batch in held:
                load_state(metric, state)
                metric._forward_cache = value_of_batch

    def reset(self, module: nn.Module | None = None) -> None:
        """Remove all values, because a run of ``module`` begins. A phase that was left may still be resumed."""
        self._module = module
        for log in reversed(self._phases):
            log.reset_metrics()  # an exception ended it
        self._published.replace({})
        self._published.versions.clear()
        self._results = []
        self._phases.clear()
        self._slots = {}
        self._warned.clear()

    # What the plugin that writes rows calls

    def reduce_epoch_hook_values(self) -> None:
        """Reduce what hooks outside batches logged over all ranks. Until then each rank shows its own values.

        Collective: every rank must call it, and nothing is exchanged where no rank can have logged in a hook.
        """
        phase = self._phases[-1]
        slots = phase.epoch_slots(hooks=True)
        if not slots and not phase.expects_hooks:
            return
        reduce_epoch(phase, slots, self._ranks, self._places())

    # torchmetrics objects that collect for several things

    def _places(self) -> dict[str, Metric]:
        """Return the torchmetrics objects of the module by their place, where other ranks may have batches for them."""
        return find_metrics(self._module) if self._module is not None and self._ranks.world_size > 1 else {}

    def _stash_outer(self, phase: PhaseLog) -> None:
        if len(self._phases) > 1:
            around = [metric for log in self._phases[:-1] for metric in log.metrics()]
            phase.stashed.stash_outer(around, find_metrics(self._module).values() if self._module is not None else ())

    def _end_loader(self, phase: PhaseLog) -> None:
        settle_metrics(phase, phase.metric_slots_of_loaders([phase.place]), self._ranks, self._places())
        phase.stashed.merge_loaders()
        for slot in phase.metric_slots_of_loaders([EVERY_LOADER]):
            if slot.metric is not None:
                self._refuse_mixture(slot, slot.metric)

    def _refuse_mixture(self, slot: Slot, metric: Metric) -> None:
        phase = self._phases[-1]
        others = {each.spec.place for each in phase.slots.values() if each.metric is metric}
        if mixture := phase.stashed.mixture(metric, slot.spec.place, others):
            self._refuse(slot, metric, mixture)

    def _refuse(self, slot: Slot, metric: Metric, mixture: str) -> NoReturn:
        found = find_metrics(self._module) if self._module is not None else {}
        refuse_mixture(slot.spec.name, metric, next((name for name in found if found[name] is metric), None), mixture)

    # Collecting

    def _open(self, name: str, given: Given, of_metric: bool) -> Slot:
        if not self._phases or self._closed_by is not None:
            refuse_place(name, self._closed_by or "outside a training epoch, a validation or a test")
        if self._discards:
            return Slot(SlotSpec(name, self._phases[-1].place, NOWHERE, of_metric), several_loaders=False)
        slot = self._phases[-1].open(name, given, is_metric=of_metric)
        # Without `given` the next call comes here too, so that a number under the name of a torchmetrics object is
        # refused: `log` itself does not compare the kinds of values.
        if not of_metric:
            slot.given = given
        options = slot.spec.options
        slot.syncs_step = options.syncs_step and self._ranks.world_size > 1
        if not options.on_step and not options.on_epoch:
            self._warn_once(f"self.log({name!r}) goes nowhere: on_step and on_epoch are both False; make one True.")
        return slot

    def _publish_step(self, slot: Slot, value: Value, batch_size: Any) -> None:
        if slot.syncs_step:
            # A collective needs one dtype and one kind of device, and a rank may have logged a number.
            device = self._ranks.device
            tensor = torch.as_tensor(value, dtype=widest(device), device=device)
            value = self._ranks.all_reduce(tensor, slot.spec.options.reduce_fx)
        for table, key in slot.step_tables:
            table[key] = value
        group = self._phases[-1].group
        if group is not None and slot.spec.options.logger:
            running = group.get(slot.step_key)
            if running is None:
                running = group[slot.step_key] = Running(slot.spec.options.reduce_fx)
            running.add(value, self._weight(slot, batch_size))

    def _log_metric(self, slot: Slot, metric: Metric, batch_size: Any, on_step: bool | None) -> None:
        if self._discards:
            return
        if slot.metric is not metric:
            self._refuse_mixture(slot, metric)
            slot.metric = metric
        if other := self._phases[-1].note_metric(slot, metric):
            self._refuse(slot, metric, f"was updated since it was logged as {other!r}, and has one value for both")
        if slot.step_tables:
            # metric.update() alone computes no value of the batch; only a call of the metric, its forward, does.
            if metric._forward_cache is not None:
                self._publish_step(slot, metric_value(slot.spec.name, metric, metric._forward_cache), batch_size)
            elif on_step or not slot.spec.options.on_epoch:
                self._warn_once(slot.has_no_value_of_batch(metric))
        # With several ranks compute() is a collective, which waits until `reduce_epoch_hook_values`.
        if slot.spec.place == EPOCH_HOOK and slot.spec.options.on_epoch and self._ranks.world_size == 1:
            self._warn_if_late(slot)
            self._phases[-1].publish_epoch(slot, slot.value())

    def _weight(self, slot: Slot, batch_size: Any) -> float:
        if batch_size is not None:
            return as_weight(slot.spec.name, batch_size)
        # Only a mean over batches is weighted; for the rest the batch need not be searched for its size.
        if slot.spec.place == EPOCH_HOOK or slot.spec.options.reduce_fx != "mean":
            return 1
        size = self._phases[-1].batch_size()
        if size is None:
            self._warn_once(
                "the number of samples cannot be told from the batch, so each batch weighs the same in an epoch mean. "
                "Say what it weighs: self.log(..., batch_size=...)."
            )
            return 1
        return size

    def _warn_if_late(self, slot: Slot) -> None:
        if self._phases[-1].is_sent and slot.spec.options.logger:
            self._warn_once(
                f"self.log({slot.spec.name!r}) comes after the row of {describe(self._phases[-1].phase)} was sent, so "
                "no logger gets it. Log it in a plugin of an earlier stage, or in an earlier hook."
            )
