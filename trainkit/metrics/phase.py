"""What was logged within one phase: a training epoch, a validation, a test."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, NoReturn

import torch

from trainkit.batch.size import find_batch_size
from trainkit.errors import MetricError
from trainkit.metrics.options import Given, LogOptions, describe, refuse_difference, resolve
from trainkit.metrics.running import Running
from trainkit.metrics.scalars import Table, Value
from trainkit.metrics.slots import EPOCH_HOOK, EVERY_LOADER, Slot, SlotSpec
from trainkit.metrics.torchmetrics import Metric
from trainkit.types import Batch, Phase

_NOTHING = object()


@dataclass(slots=True)
class Published:
    """What outlives the phase in which it was logged.

    Attributes:
        callback: The newest value of every name.
        logged: Those that go to loggers.
        progress_bar: Those that are shown in the progress bar.
        step_row: Values of training batches, the newest of each name, that no row was written of yet.
    """

    callback: Table = field(default_factory=dict)
    logged: Table = field(default_factory=dict)
    progress_bar: Table = field(default_factory=dict)
    step_row: Table = field(default_factory=dict)

    def tables(self) -> dict[str, Table]:
        """Return the tables by name."""
        return {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}

    def replace(self, tables: dict[str, Table]) -> None:
        """Show what ``tables`` says instead. Slots hold on to the tables, so these are changed in place."""
        for name, table in self.tables().items():
            table.clear()
            table.update(tables.get(name, {}))


class PhaseLog:
    """The slots of one phase, and what it comes to.

    Attributes:
        phase: What it is the log of.
        num_dataloaders: How many loaders are evaluated.
        slots: Every slot, by place and name.
        place: Where the run is: the index of a dataloader, or `EPOCH_HOOK`.
        batch: The batch that is worked on, until its size was looked for.
        current: The slots that belong to that place, by name.
        epoch_row: Values of the phase for loggers.
        results: Values of the phase for users, one table per dataloader.
    """

    def __init__(self, phase: Phase, num_dataloaders: int, published: Published) -> None:
        self.phase = phase
        self.num_dataloaders = num_dataloaders
        self.slots: dict[tuple[int, str], Slot] = {}
        self.place = EPOCH_HOOK
        self.current: dict[str, Slot] = {}
        self.epoch_row: Table = {}
        self.results: list[Table] = [{} for _ in range(num_dataloaders)]
        self._published = published
        self._by_place: dict[int, dict[str, Slot]] = {EPOCH_HOOK: self.current}
        self.batch: Batch = _NOTHING
        self._batch_size: int | None = None

    def leave_batches(self) -> None:
        """Work on no batch from now on."""
        self.batch = _NOTHING
        self.enter(EPOCH_HOOK)

    def enter(self, place: int) -> None:
        """Be at another place from now on."""
        self.place = place
        self.current = self._by_place.setdefault(place, {})

    def batch_size(self) -> int | None:
        """Return the number of samples in the batch, or None if there is doubt."""
        if self.batch is not _NOTHING:
            self._batch_size = find_batch_size(self.batch)
            self.batch = _NOTHING
        return self._batch_size

    def open(self, name: str, given: Given, *, is_metric: bool) -> Slot:
        """Return the slot for ``name`` at this place.

        Raises:
            MetricError: If ``name`` cannot be logged here, not with these options, or was logged with others before.
        """
        if self.phase is Phase.PREDICT:
            refuse_place(name, self.phase)
        _check_name(name)
        in_batch = self.place != EPOCH_HOOK
        options = resolve(name, given, self.phase, in_batch=in_batch)
        shared = in_batch and self.num_dataloaders > 1 and not options.add_dataloader_idx
        slot = self.adopt(SlotSpec(name, EVERY_LOADER if shared else self.place, options, is_metric))
        if in_batch:
            slot.loaders.add(self.place)
        self.current[name] = slot
        return slot

    def adopt(self, spec: SlotSpec) -> Slot:
        """Return the slot for ``spec``, and make it if there is none yet.

        Raises:
            MetricError: If there is one that differs.
        """
        slot = self.slots.get(spec.key)
        if slot is None or slot.restored:
            new = Slot(spec, several_loaders=self.num_dataloaders > 1)
            if slot is not None:
                new.continue_from(slot)
            new.step_tables = tuple(self._step_tables(new))
            slot = self.slots[spec.key] = new
        elif slot.spec != spec:
            refuse_difference(spec.name, slot.spec.options, spec.options)
            raise MetricError(f"{spec.name!r} was logged as a number and as a torchmetrics Metric; use two names.")
        return slot

    def epoch_slots(self, *, hooks: bool) -> list[Slot]:
        """Return what was logged ``on_epoch``: in hooks outside batches, or in batches."""
        return [
            slot
            for slot in self.slots.values()
            if slot.spec.options.on_epoch and (slot.spec.place == EPOCH_HOOK) is hooks
        ]

    def publish_epoch(self, slot: Slot, value: Value) -> None:
        """Show ``value`` as that of the phase."""
        options = slot.spec.options
        for key in dict.fromkeys((slot.key, slot.epoch_key)):
            self._published.callback[key] = value
            for index in self._loaders_of(slot):
                self.results[index][key] = value
        if options.prog_bar:
            self._published.progress_bar[slot.epoch_key] = value
        if options.logger:
            self._published.logged[slot.epoch_key] = value
            self.epoch_row[slot.epoch_key] = value

    def reset_metrics(self) -> None:
        """Let the torchmetrics objects start anew."""
        # States made in inference mode could not be changed in place by a later phase outside it.
        with torch.inference_mode(False):
            for metric in {id(slot.metric): slot.metric for slot in self.slots.values() if slot.metric}.values():
                metric.reset()

    def state_dict(self, metric_paths: dict[int, str]) -> dict[str, Any]:
        """Return what batches have collected so far. What hooks logged outside them, they will log again."""
        return {
            "num_dataloaders": self.num_dataloaders,
            "slots": [
                slot.state_dict(metric_paths.get(id(slot.metric)))
                for slot in self.slots.values()
                if slot.spec.place != EPOCH_HOOK
            ],
        }

    def load_state_dict(self, state: dict[str, Any], metrics: dict[str, Metric]) -> None:
        """Take back what `state_dict` gave; ``metrics`` are the module's torchmetrics objects by their place in it."""
        for saved in state["slots"]:
            spec = SlotSpec(saved["name"], saved["place"], LogOptions(**saved["options"]), saved["is_metric"])
            metric = metrics.get(saved["metric_path"])
            if spec.is_metric and metric is None:
                continue
            slot = self.adopt(spec)
            slot.metric = metric
            slot.loaders = set(saved["loaders"])
            slot.running = Running.from_state(saved["running"]) if saved["running"] else None
            slot.restored = True

    def pause(self) -> None:
        """Keep only what batches have collected: the hooks outside them will run and log again."""
        self.slots = {key: slot for key, slot in self.slots.items() if slot.spec.place != EPOCH_HOOK}
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
        # Callbacks decide by a whole evaluation, not by a batch of it.
        if training:
            yield from ((self._published.callback, key) for key in dict.fromkeys((slot.key, slot.step_key)))
        if options.prog_bar:
            yield self._published.progress_bar, slot.step_key
        if options.logger:
            yield self._published.logged, slot.step_key
            # An evaluation has one row, with the newest of such values.
            yield self._published.step_row if training else self.epoch_row, slot.step_key


def refuse_place(name: str, phase: Phase | None) -> NoReturn:
    """Raise `MetricError` because nothing can be logged here."""
    raise MetricError(
        f"self.log({name!r}) was called from the wrong place.\n"
        f"    here         {'outside a training epoch, a validation or a test' if phase is None else describe(phase)}\n"
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
    if "/dataloader_idx_" in name:
        raise MetricError(
            f"self.log({name!r}): '/dataloader_idx_N' is added where there are several dataloaders.\n"
            "    to do        leave it out of the name"
        )
