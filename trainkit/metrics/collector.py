"""What ``self.log`` hands its values to, and where loops, loggers and users find them again."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from trainkit.metrics.options import Given
from trainkit.metrics.phase import PhaseLog, Published, refuse_place
from trainkit.metrics.ranks import Ranks
from trainkit.metrics.reduce import settle
from trainkit.metrics.scalars import Table, Value, as_number, as_scalar, as_tensors, as_weight, metric_value, read
from trainkit.metrics.slots import EPOCH_HOOK, Slot
from trainkit.metrics.torchmetrics import Metric, is_metric, load_metric_states, metric_states
from trainkit.types import Phase


class MetricCollector:
    """Collects what is logged, phase by phase.

    A logged tensor is copied and stays on its device; a phase keeps one number per name. Nothing waits for a device but
    `step_row`, `epoch_row` and `results`. Ranks meet in `end_batches`, in `reduce_epoch_hook_values`, and where ``log``
    gets ``sync_dist=True`` for the value of a batch; reading is never collective.

    Args:
        ranks: How this process agrees with the others; a `Strategy`.
    """

    def __init__(self, ranks: Ranks) -> None:
        self._ranks = ranks
        self._published = Published()
        self._phases: list[PhaseLog] = []  # the outer first: a validation may run within a training epoch
        self._paused: dict[Phase, PhaseLog] = {}
        self._slots: dict[str, Slot] = {}
        self._results: list[Table] = []
        self._warned: set[str] = set()

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
            MetricError: If the value, the options or the place cannot be.
        """
        given = (prog_bar, logger, on_step, on_epoch, reduce_fx, sync_dist, add_dataloader_idx, rank_zero_only)
        slot = self._slots.get(name) if isinstance(name, str) else None
        if slot is None or slot.given != given:
            slot = self._open(name, given, is_metric(value))
        if isinstance(value, Tensor):
            value = value.detach()
            if value.ndim:
                value = as_scalar(name, value)
        elif slot.spec.is_metric:
            self._log_metric(slot, value)
            return
        elif type(value) is not float:
            value = as_number(name, value)
        if slot.step_tables:
            self._publish_step(slot, value.clone() if isinstance(value, Tensor) else value)
        if slot.running is not None:
            slot.running.add(value, self._weight(slot, batch_size))
            if slot.spec.place == EPOCH_HOOK:
                self._phases[-1].publish_epoch(slot, slot.value())

    # What loops call

    def begin_phase(self, phase: Phase, num_dataloaders: int = 1, *, resume: bool = False) -> None:
        """Collect for ``phase`` from now on; what is logged before the first batch counts for the whole phase.

        Args:
            phase: What begins.
            num_dataloaders: How many loaders are evaluated in it.
            resume: Go on with what the phase had collected when a checkpoint was saved in it, or when it was left. It
                begins anew all the same if it had another number of loaders.

        A phase that has begun already, ahead of a hook in which values may be logged, just goes on.
        """
        if self._phases and self._phases[-1].phase is phase:
            return
        log = self._paused.pop(phase, None)
        if not resume or log is None or log.num_dataloaders != num_dataloaders:
            log = PhaseLog(phase, num_dataloaders, self._published)
        self._phases.append(log)
        self._slots = log.current
        if phase is not Phase.TRAIN:
            self._results = log.results

    def begin_batches(self, dataloader_idx: int = 0) -> PhaseLog:
        """Collect for the batches of one loader from now on.

        Returns:
            What they are collected in. Tell it each batch: ``collected.batch = batch``.
        """
        phase = self._phases[-1]
        phase.enter(dataloader_idx)
        self._slots = phase.current
        return phase

    @property
    def in_training_batches(self) -> bool:
        """Whether training batches are being collected, and no evaluation among them."""
        phase = self._phases[-1] if self._phases else None
        return phase is not None and phase.phase is Phase.TRAIN and phase.place != EPOCH_HOOK

    def end_batches(self) -> None:
        """Settle the values of the phase, on all ranks; what is logged from now on counts for the whole phase."""
        phase = self._phases[-1]
        phase.leave_batches()
        self._slots = phase.current
        settle(phase, phase.epoch_slots(hooks=False), self._ranks)

    def end_phase(self, *, resumable: bool = False) -> None:
        """Go back to the phase within which this one ran, if any.

        Args:
            resumable: Keep what was collected, torchmetrics objects too, for ``begin_phase(..., resume=True)``.
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
        """Within it everything works as ever; after it, nothing of it remains."""
        tables = {name: dict(table) for name, table in self._published.tables().items()}
        results, depth = self._results, len(self._phases)
        try:
            yield
        finally:
            self._published.replace(tables)
            self._results = results
            del self._phases[depth:]
            self._slots = self._phases[-1].current if self._phases else {}

    def reset(self) -> None:
        """Forget all values, because a new run begins. A phase that was left in the middle may still be resumed."""
        self._published.replace({})
        self._results = []
        self._phases.clear()
        self._slots = {}

    # What the plugin that writes rows calls

    def reduce_epoch_hook_values(self) -> None:
        """Settle, on all ranks, what was logged in hooks outside batches. Until then each rank shows its own values."""
        phase = self._phases[-1]
        settle(phase, phase.epoch_slots(hooks=True), self._ranks)

    def step_row(self) -> dict[str, float]:
        """Return what training batches logged ``on_step`` for loggers since the last call, the newest of each name.

        Waits for the device.
        """
        row = read(self._published.step_row)
        self._published.step_row.clear()
        return row

    def epoch_row(self) -> dict[str, float]:
        """Return what was logged ``on_epoch`` for loggers in the phase that is ending. Waits for the device.

        That of an evaluation also has the newest values logged ``on_step``, which have no row of their own.
        """
        return read(self._phases[-1].epoch_row) if self._phases else {}

    def note(self, values: dict[str, float]) -> None:
        """Show values that no module logged, such as learning rates, to whoever decides by ``callback_metrics``."""
        self._published.callback.update(values)

    # What users read

    @property
    def callback_metrics(self) -> dict[str, Tensor]:
        """The newest value of every name, for decisions such as early stopping."""
        return as_tensors(self._published.callback)

    @property
    def logged_metrics(self) -> dict[str, Tensor]:
        """The newest values that went, or will go, to loggers."""
        return as_tensors(self._published.logged)

    @property
    def progress_bar_metrics(self) -> dict[str, Tensor]:
        """The newest values logged with ``prog_bar=True``."""
        return as_tensors(self._published.progress_bar)

    def results(self) -> list[dict[str, float]]:
        """Return the values of the newest evaluation, one dict per dataloader. Waits for the device."""
        return [read(table) for table in self._results]

    # What a checkpoint keeps

    def state_dict(self, module: nn.Module) -> dict[str, Any]:
        """Return what this rank needs to continue in the middle of a phase bit for bit; nothing changes by it.

        Args:
            module: Whose torchmetrics objects are logged. Their data is kept too.
        """
        paths = {id(child): name for name, child in module.named_modules()}
        phases = {**self._paused, **{log.phase: log for log in self._phases}}
        return {
            **{name: dict(table) for name, table in self._published.tables().items()},
            "phases": {phase.value: log.state_dict(paths) for phase, log in phases.items()},
            "torchmetrics": metric_states(module),
        }

    def load_state_dict(self, state: dict[str, Any], module: nn.Module) -> None:
        """Take back what `state_dict` gave; ``begin_phase(..., resume=True)`` then goes on with it."""
        self._published.replace(state)
        children: dict[str, Any] = dict(module.named_modules())
        self._paused = {}
        for name, saved in state["phases"].items():
            log = PhaseLog(Phase(name), saved["num_dataloaders"], self._published)
            log.load_state_dict(saved, children)
            self._paused[log.phase] = log
        load_metric_states(module, state["torchmetrics"])

    # Collecting

    def _open(self, name: str, given: Given, of_metric: bool) -> Slot:
        if not self._phases:
            refuse_place(name, None)
        slot = self._phases[-1].open(name, given, is_metric=of_metric)
        if not of_metric:  # a torchmetrics object comes this way each time, so that nothing else passes for one
            slot.given = given
        options = slot.spec.options
        slot.syncs_step = options.syncs_step and self._ranks.world_size > 1
        if not options.on_step and not options.on_epoch:
            self._warn_once(f"self.log({name!r}) goes nowhere: on_step and on_epoch are both False; make one True.")
        return slot

    def _publish_step(self, slot: Slot, value: Value) -> None:
        if slot.syncs_step:
            tensor = torch.as_tensor(value, dtype=torch.get_default_dtype(), device=self._ranks.device)
            value = self._ranks.all_reduce(tensor, slot.spec.options.reduce_fx)
        for table, key in slot.step_tables:
            table[key] = value

    def _log_metric(self, slot: Slot, metric: Metric) -> None:
        slot.metric = metric
        # A metric that was only updated has no value of the batch.
        if slot.step_tables and metric._forward_cache is not None:
            self._publish_step(slot, metric_value(slot.spec.name, metric, metric._forward_cache))
        if slot.spec.place == EPOCH_HOOK and slot.spec.options.on_epoch and self._ranks.world_size == 1:
            self._phases[-1].publish_epoch(slot, slot.value())

    def _weight(self, slot: Slot, batch_size: Any) -> float:
        if batch_size is not None:
            return as_weight(slot.spec.name, batch_size)
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

    def _warn_once(self, message: str) -> None:
        if message not in self._warned:
            self._warned.add(message)
            warnings.warn(message, stacklevel=5)
