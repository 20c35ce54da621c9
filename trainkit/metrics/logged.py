"""What has been logged, as everybody but the module sees it: loops and loggers, plugins and users, and checkpoints."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from torch import Tensor, nn

from trainkit.metrics.phase import PhaseLog, Published
from trainkit.metrics.scalars import Table, as_tensors, read, storable
from trainkit.metrics.slots import EPOCH_HOOK
from trainkit.metrics.torchmetrics import Plugins, find_metrics, has_data, load_metric_states, metric_states
from trainkit.output import warn
from trainkit.types import Phase


class LoggedValues:
    """The logged values, in one `PhaseLog` for each phase, and the newest of all in `Published`.

    How they get there is in `MetricCollector`. Only `step_row`, `epoch_row` and `results` wait for a device, and no
    method here is a collective.
    """

    def __init__(self) -> None:
        self._published = Published()
        self._phases: list[PhaseLog] = []  # a stack: a validation may run within a training epoch
        self._paused: dict[Phase, PhaseLog] = {}  # left or loaded in mid-phase, for begin_phase(resume=True)
        self._results: list[Table] = []
        self._warned: set[str] = set()

    # What loops ask

    @property
    def in_training(self) -> bool:
        """Whether the innermost phase is training."""
        return bool(self._phases) and self._phases[-1].phase is Phase.TRAIN

    @property
    def in_training_batches(self) -> bool:
        """Whether the innermost phase is training, between its first and its last batch."""
        return self.in_training and self._phases[-1].place != EPOCH_HOOK

    def known_samples(self) -> int | None:
        """Return of how many samples the loader made the running batch; None if it does not know."""
        return self._phases[-1].known_samples()

    # What the plugin that writes rows calls

    def has_step_row(self) -> bool:
        """Whether batches of this phase logged values ``on_step`` for loggers since the last call of `step_row`."""
        return bool(self._phases[-1].step_row)

    def step_row(self) -> dict[str, float]:
        """Return the newest values that batches of this phase logged ``on_step`` for loggers since the last call.

        Waits for the device, if there are any.
        """
        table = self._phases[-1].step_row
        # Each value is in one row only: a name that is logged seldom is not repeated with an old value.
        row = read(table)
        table.clear()
        return row

    def epoch_row(self) -> dict[str, float]:
        """Return what was logged ``on_epoch`` for loggers in the phase that is ending. Waits for the device."""
        if not self._phases:
            return {}
        self._phases[-1].is_sent = True
        return read(self._phases[-1].epoch_row)

    def note(self, values: dict[str, float]) -> None:
        """Add values that no module logged, such as learning rates, to ``callback_metrics``."""
        self._published.callback.update(values)
        self._published.versions.stepped.update(values)

    # What plugins and users read

    @property
    def callback_metrics(self) -> dict[str, Tensor]:
        """The newest value of every name, for decisions such as early stopping."""
        return as_tensors(self._published.callback)

    @property
    def awaits_row(self) -> bool:
        """Whether training has logged values ``on_step`` for loggers that are in no row yet."""
        return bool(self._published.step_row)

    @property
    def awaited(self) -> set[str]:
        """The names that were logged in a running phase, and get the value of the phase at its end."""
        slots = [slot for log in self._phases for slot in log.slots.values() if slot.spec.options.on_epoch]
        return {name for slot in slots for name in (slot.key, slot.epoch_key)}

    def version(self, name: str) -> int:
        """Return a number that changes whenever ``name`` in ``callback_metrics`` gets a value.

        By it a plugin that decides by a metric tells a new value from the one that it used last, even if both are the
        same number. It is kept in checkpoints, so the plugin keeps it in its own state.
        """
        return self._published.versions.of(name)

    def version_of_epoch(self, name: str) -> int | None:
        """Return what `version` does, and None for the value of a batch. It changes nothing, so one rank may ask."""
        return self._published.versions.of_epoch(name)

    def is_shared(self, name: str) -> bool:
        """Whether ``name`` has the value of an epoch or a validation that all ranks have; all of them say the same."""
        return name in self._published.shared and self.version_of_epoch(name) is not None

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

    def state_dict(self, module: nn.Module, plugins: Plugins = ()) -> dict[str, Any]:
        """Return what this rank needs to continue in the middle of a phase bit for bit. Reduces nothing.

        Args:
            module: The module whose torchmetrics objects are logged; their states are saved too.
            plugins: Names and plugins, of which the same holds.
        """
        # A torchmetrics object is saved as its place, where the resumed process has one of its own.
        paths = {id(metric): place for place, metric in find_metrics(module, plugins).items()}
        # The log of a running phase wins: a paused one of the same phase is older.
        phases = {**self._paused, **{log.phase: log for log in self._phases}}
        for log in phases.values():
            self._warn_of_lost_metrics(log, paths)
        return {
            **{name: storable(table) for name, table in self._published.tables().items()},
            "versions": self._published.versions.state_dict(),
            "phases": {phase.value: log.state_dict(paths) for phase, log in phases.items()},
            "torchmetrics": metric_states(module, plugins),
        }

    def load_state_dict(
        self,
        state: dict[str, Any],
        module: nn.Module,
        under_way: Collection[Phase] = tuple(Phase),
        plugins: Plugins = (),
    ) -> None:
        """Restore what `state_dict` returned; ``begin_phase(..., resume=True)`` continues with it.

        Args:
            state: What `state_dict` returned.
            module: The module with the torchmetrics objects.
            under_way: The phases of which something is still to come. One that was saved in its last hooks is over.
            plugins: Names and plugins, which may hold such objects too.
        """
        self._published.replace(state)
        if "versions" in state:  # not so in files of earlier versions
            self._published.versions.load_state_dict(state["versions"])
        metrics = find_metrics(module, plugins)
        load_metric_states(module, state["torchmetrics"], plugins)
        self._paused = {}
        for name, saved in state["phases"].items():
            log = PhaseLog(Phase(name), saved["num_dataloaders"], self._published)
            log.load_state_dict(saved, metrics)
            if log.phase in under_way:
                self._paused[log.phase] = log
            else:
                # As its end would have done, which came after the checkpoint: the next phase begins without its data.
                log.reset_metrics()

    def _warn_of_lost_metrics(self, log: PhaseLog, paths: Collection[int]) -> None:
        for slot in log.slots.values():
            if slot.metric is not None and has_data(slot.metric) and id(slot.metric) not in paths:
                self._warn_once(
                    f"the torchmetrics object that is logged as {slot.spec.name!r} is in no checkpoint: it is found "
                    "neither in the module nor in a callback, so a run that continues in the middle of an epoch begins "
                    "it anew. Make it an attribute of one of them, or put it into a list or dict that is one."
                )

    def _warn_once(self, message: str) -> None:
        if message not in self._warned:
            self._warned.add(message)
            warn(message, innermost=True)
