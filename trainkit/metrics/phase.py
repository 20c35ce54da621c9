"""What was logged within one phase (a training epoch, a validation, a test), and the newest values over all phases."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, NoReturn

from trainkit.batch.size import find_batch_size
from trainkit.errors import CheckpointError, MetricError
from trainkit.metrics.options import Given, LogOptions, describe, refuse_difference, resolve
from trainkit.metrics.running import Running
from trainkit.metrics.scalars import Table, Value, storable
from trainkit.metrics.sharing import StashedStates
from trainkit.metrics.slots import EPOCH_HOOK, EVERY_LOADER, Slot, SlotSpec
from trainkit.metrics.torchmetrics import Metric, num_updates, reset
from trainkit.metrics.versions import Versions
from trainkit.printable import is_writable
from trainkit.types import Batch, Phase

_NOTHING = object()


def unknown() -> None:
    """What a loader that knows no number of samples tells."""


@dataclass(slots=True)
class Published:
    """Newest logged values, kept across phases.

    Attributes:
        callback: The newest value of every name; ``trainer.callback_metrics``.
        logged: The newest values logged with ``logger=True``; ``trainer.logged_metrics``.
        progress_bar: The newest values logged with ``prog_bar=True``; ``trainer.progress_bar_metrics``.
        step_row: The newest values of training batches that are in no row of metrics yet.
        versions: Which of the values in ``callback`` are new.
        shared: The names in ``callback`` whose newest value of a phase is that of all ranks.
    """

    callback: Table = field(default_factory=dict)
    logged: Table = field(default_factory=dict)
    progress_bar: Table = field(default_factory=dict)
    step_row: Table = field(default_factory=dict)
    versions: Versions = field(default_factory=Versions)
    shared: set[str] = field(default_factory=set)

    def tables(self) -> dict[str, Table]:
        """Return the tables by name."""
        names = (field.name for field in dataclasses.fields(self) if field.name not in ("versions", "shared"))
        return {name: getattr(self, name) for name in names}

    def replace(self, tables: dict[str, Table]) -> None:
        """Replace all values by those of ``tables``; a table that is missing there becomes empty."""
        # In place: slots hold references to these dicts (`Slot.step_tables`), which a new dict would leave stale.
        for name, table in self.tables().items():
            table.clear()
            table.update(tables.get(name, {}))
        self.shared.clear()  # not kept in files: all ranks ask each other again, until there is a new value


class PhaseLog:
    """The slots of one phase, and the tables with its values.

    Attributes:
        phase: The phase whose values these are.
        num_dataloaders: How many loaders are evaluated.
        slots: Every slot, by place and name.
        place: Where ``log`` is called now: the index of the dataloader whose batch runs, or `EPOCH_HOOK`.
        batch: The running batch, set by the loop; dropped once its size is known.
        batch_idx: Its index, set by the loop.
        last_slot_of: The slot under which each torchmetrics object was logged last, by the ``id`` of the object.
        group: With accumulation, what batches of the running group logged for rows, by the key in them; else None.
        known_samples: Tells of how many samples the loader made that batch; None where it does not know.
        current: The slots that were used at that place, by name.
        step_row: Values of batches for loggers that are in no row yet.
        epoch_row: Values of the phase for loggers.
        results: Values of the phase for users, one table per dataloader.
        version: The number of its values in `Versions`, from the first one on. What is reduced twice is no new value.
        is_reduced: Whether what batches logged so far was reduced.
        expects_hooks: Whether some rank may log in hooks outside of batches.
        is_sent: Whether loggers have been sent those of the phase.
        stashed: What torchmetrics objects hold for the phase around this one, and for earlier loaders.
    """

    def __init__(self, phase: Phase, num_dataloaders: int, published: Published) -> None:
        self.phase = phase
        self.num_dataloaders = num_dataloaders
        self.slots: dict[tuple[int, str], Slot] = {}
        self.place = EPOCH_HOOK
        self.current: dict[str, Slot] = {}
        # A validation within a training epoch must not send what training has logged for a row that is yet to come.
        self.step_row: Table = published.step_row if phase is Phase.TRAIN else {}
        self.epoch_row: Table = {}
        self.results: list[Table] = [{} for _ in range(num_dataloaders)]
        self.version: int | None = None
        self.is_reduced = False
        self.expects_hooks = True
        self.is_sent = False
        self.stashed = StashedStates()
        self._published = published
        # A slot that all loaders share is found under each of their places, so this is not `slots` sorted by place.
        self._by_place: dict[int, dict[str, Slot]] = {EPOCH_HOOK: self.current}
        self.batch: Batch = _NOTHING
        self.batch_idx = -1
        self.last_slot_of: dict[int, Slot] = {}
        self.group: dict[str, Running] | None = None
        self._batch_size: int | None = None
        self.known_samples: Callable[[], int | None] = unknown

    def renew(self) -> None:
        """Have values of the phase count as new from now on."""
        self.version, self.is_reduced = None, False

    def leave_batches(self) -> None:
        """Log for the whole phase from now on, and for no batch."""
        self.batch = _NOTHING
        self.enter(EPOCH_HOOK)

    def enter(self, place: int) -> None:
        """Log at another place from now on: for batches of the dataloader ``place``, or at `EPOCH_HOOK`."""
        self.place = place
        self.current = self._by_place.setdefault(place, {})

    def end_group(self) -> None:
        """Make the value of an accumulation group, whose update was made, that of each name that it logged for rows."""
        for key, running in (self.group or {}).items():
            self.step_row[key] = self._published.logged[key] = running.value()
        if self.group:
            self.group = {}

    def batch_size(self) -> int | None:
        """Return the number of samples in the batch, or None if its tensors disagree or there are none."""
        # Looked for when the first epoch mean of a batch needs it, and once for all names. The batch is dropped then:
        # kept any longer, it would be in memory beside the next one.
        if self.batch is not _NOTHING:
            self._batch_size = find_batch_size(self.batch, self.known_samples)
            self.batch = _NOTHING
        return self._batch_size

    def open(self, name: str, given: Given, *, is_metric: bool) -> Slot:
        """Return the slot for ``name`` at this place; make it if there is none yet.

        Raises:
            MetricError: If ``name`` cannot be logged here, an option is not usable here, or ``name`` was logged with
                other options before.
        """
        if self.phase is Phase.PREDICT:
            refuse_place(name, describe(self.phase))
        _check_name(name)
        in_batch = self.place != EPOCH_HOOK
        options = resolve(name, given, self.phase, in_batch=in_batch)
        # Without the index in its name there is one value for all loaders, and so one slot.
        shared = in_batch and self.num_dataloaders > 1 and not options.add_dataloader_idx
        slot = self.adopt(SlotSpec(name, EVERY_LOADER if shared else self.place, options, is_metric))
        if in_batch:
            slot.loaders.add(self.place)
        self.current[name] = slot
        return slot

    def adopt(self, spec: SlotSpec) -> Slot:
        """Return the slot for ``spec``; make it if there is none yet.

        Raises:
            MetricError: If there is one with other options, or of the other kind.
        """
        slot = self.slots.get(spec.key)
        # What a checkpoint restored has the options of that time; those in today's code win over them.
        if slot is None or slot.restored:
            new = Slot(spec, several_loaders=self.num_dataloaders > 1)
            # A hook that is called again in a phase that is resumed logs again what it had logged.
            if slot is not None and spec.place != EPOCH_HOOK:
                new.continue_from(slot)
            new.step_tables = tuple(self._step_tables(new))
            slot = self.slots[spec.key] = new
        elif slot.spec != spec:
            refuse_difference(spec.name, slot.spec.options, spec.options)
            raise MetricError(f"{spec.name!r} was logged as a number and as a torchmetrics Metric; use two names.")
        return slot

    def epoch_slots(self, *, hooks: bool) -> list[Slot]:
        """Return the slots with ``on_epoch``: those of hooks outside batches, or those of batches."""
        return [
            slot
            for slot in self.slots.values()
            if slot.spec.options.on_epoch and (slot.spec.place == EPOCH_HOOK) is hooks
        ]

    def publish_epoch(self, slot: Slot, value: Value | None, *, is_shared: bool = False) -> None:
        """Publish ``value`` as the value of ``slot`` over the phase, in every table that its options name.

        None, of a torchmetrics object that has no value for the phase, is published nowhere.

        Args:
            slot: The slot.
            value: Its value.
            is_shared: Whether that is the value of all ranks, and the same on each.
        """
        if value is None:
            return
        options = slot.spec.options
        if self.version is None:
            self.version = self._published.versions.next()
        # With on_step and on_epoch, callbacks and users find it as "x_epoch" and as "x", whichever they monitor.
        for key in dict.fromkeys((slot.key, slot.epoch_key)):
            self._published.callback[key] = value
            self._published.versions.note(key, self.version)
            (self._published.shared.add if is_shared else self._published.shared.discard)(key)
            for index in self._loaders_of(slot):
                self.results[index][key] = value
        if options.prog_bar:
            self._published.progress_bar[slot.epoch_key] = value
        if options.logger:
            self._published.logged[slot.epoch_key] = value
            self.epoch_row[slot.epoch_key] = value

    def note_metric(self, slot: Slot, metric: Metric) -> str | None:
        """Note that ``metric`` is logged under ``slot``; return the name under which it had less in the same batch.

        That is None where it has nothing of another name. A name that comes again in one batch has its second part.
        """
        here, updates = (self.place, self.batch_idx), num_updates(metric)
        before, self.last_slot_of[id(metric)] = self.last_slot_of.get(id(metric), slot), slot
        has_more = before is not slot and before.logged_in == here != slot.logged_in and before.updates < updates
        slot.logged_in, slot.updates = here, updates
        # Values of batches are those that its forward gave each time, and those of hooks what it has computed there.
        by_epoch = self.place != EPOCH_HOOK and (slot.spec.options.on_epoch or before.spec.options.on_epoch)
        return before.spec.name if has_more and by_epoch else None

    def metrics(self) -> list[Metric]:
        """Return the torchmetrics objects that were logged. One object may be logged under several names."""
        return list({id(slot.metric): slot.metric for slot in self.slots.values() if slot.metric}.values())

    def metric_slots_of_loaders(self, loaders: Iterable[int]) -> list[Slot]:
        """Return the slots of torchmetrics objects that have a value for one of ``loaders``."""
        return [slot for slot in self.epoch_slots(hooks=False) if slot.spec.is_metric and slot.spec.place in loaders]

    def reset_metrics(self) -> None:
        """Reset the torchmetrics objects for the next phase, and give back what they held of the one around this."""
        for metric in self.metrics():
            reset(metric)
        self.stashed.restore()

    def state_dict(self, metric_paths: dict[int, str]) -> dict[str, Any]:
        """Return what has been collected so far.

        Args:
            metric_paths: From the ``id`` of each torchmetrics object to its place, as `find_metrics` has it.
        """
        return {
            "num_dataloaders": self.num_dataloaders,
            "slots": [slot.state_dict(metric_paths.get(id(slot.metric))) for slot in self.slots.values()],
            "group": {key: running.state_dict() for key, running in (self.group or {}).items()},
            # Those of training are among what is published.
            "step_values": {} if self.phase is Phase.TRAIN else storable(self.step_row),
            "version": self.version,
            "is_reduced": self.is_reduced,
            "aside": self.stashed.state_dict(metric_paths),
        }

    def load_state_dict(self, state: dict[str, Any], metrics: dict[str, Metric]) -> None:
        """Restore what `state_dict` returned.

        Args:
            state: What `state_dict` returned.
            metrics: The torchmetrics objects by their place.
        """
        # Not so in files of earlier versions.
        self.version, self.is_reduced = state.get("version"), state.get("is_reduced", False)
        for saved in state["slots"]:
            spec = SlotSpec(saved["name"], saved["place"], LogOptions(**saved["options"]), saved["is_metric"])
            metric = metrics.get(saved["metric_path"])
            # The run has lost this object since the checkpoint was saved.
            if spec.is_metric and metric is None:
                continue
            slot = self.adopt(spec)
            slot.metric = metric
            slot.loaders = set(saved["loaders"])
            if max(slot.loaders, default=0) >= max(self.num_dataloaders, 1):
                raise CheckpointError(f"{spec.name!r} was logged for loader {max(slot.loaders)}, which is not there.")
            slot.running = Running.from_state(saved["running"]) if saved["running"] else None
            slot.settled = list(saved.get("settled", ()))
            slot.restored = True
        if "aside" in state:
            self.stashed.load_state_dict(state["aside"], metrics)
        # Neither is in files of earlier versions.
        self.step_row.update(state.get("step_values", {}))
        self.group = {key: Running.from_state(saved) for key, saved in state.get("group", {}).items()} or None

    def pause(self) -> None:
        """Prepare to be continued later: keep what was collected, and drop the values of the whole phase.

        Its values are reduced at its end. What hooks outside batches log again until then takes the place of what they
        had logged; the hooks of its start are not called again.
        """
        for slot in self._by_place[EPOCH_HOOK].values():
            slot.restored = True
        self._by_place[EPOCH_HOOK].clear()
        for table in (self.epoch_row, *self.results):
            table.clear()

    def _loaders_of(self, slot: Slot) -> Iterable[int]:
        return range(self.num_dataloaders) if slot.spec.place == EPOCH_HOOK else slot.loaders

    def _step_tables(self, slot: Slot) -> Iterable[tuple[Table, str]]:
        options = slot.spec.options
        if not options.on_step:
            return
        training = self.phase is Phase.TRAIN
        # Callbacks must decide by a whole evaluation, never by the value of one of its batches.
        if training:
            for key in dict.fromkeys((slot.key, slot.step_key)):
                yield self._published.callback, key
                yield self._published.versions.stepped, key
        if options.prog_bar:
            yield self._published.progress_bar, slot.step_key
        if options.logger:
            yield self._published.logged, slot.step_key
            yield self.step_row, slot.step_key


def refuse_place(name: str, here: str) -> NoReturn:
    """Raise `MetricError`: nothing can be logged ``here``."""
    raise MetricError(
        f"self.log({name!r}) was called from the wrong place.\n"
        f"    here         {here}\n"
        "    allowed      training_step, validation_step, test_step, and the hooks between the start and the end of\n"
        "                 a training epoch, a validation or a test\n"
        "    to do        keep the value in an attribute, and log it in one of these"
    )


def _check_name(name: Any) -> None:
    if not isinstance(name, str):
        raise MetricError(
            f"self.log({name!r}, ...): the name is a str, not a {type(name).__name__}.\n"
            "    to do        self.log('train/loss', loss): first the name, then the value"
        )
    if not is_writable(name):
        raise MetricError(
            f"self.log({name!r}, ...): no file can hold this name, since a zero character or half of a character is in "
            "it.\n    to do        give it another name"
        )
    if "/dataloader_idx_" in name:
        raise MetricError(
            f"self.log({name!r}): '/dataloader_idx_N' is added where there are several dataloaders.\n"
            "    to do        leave it out of the name"
        )
