"""One logged name within one phase: its options, the names it is shown under, and what it collected."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

import torch

from trainkit.metrics.options import Given, LogOptions
from trainkit.metrics.running import Running
from trainkit.metrics.scalars import Table, Value, metric_value
from trainkit.metrics.torchmetrics import Metric
from trainkit.output import warn

EVERY_LOADER = -1
"""The place of a value that all dataloaders share. The value of one dataloader has that one's index as its place."""

EPOCH_HOOK = -2
"""The place of a value logged outside batches."""


@dataclass(frozen=True, slots=True)
class SlotSpec:
    """The identity of a logged value: calls of ``log`` with equal specs, on any rank, are reduced into one value.

    Attributes:
        name: The name that ``log`` was called with.
        place: Where in its phase: a dataloader's index, `EVERY_LOADER` or `EPOCH_HOOK`.
        options: Where it goes and how it is reduced.
        is_metric: Whether it is a torchmetrics object, and not a number.
    """

    name: str
    place: int
    options: LogOptions
    is_metric: bool

    @property
    def key(self) -> tuple[int, str]:
        """The key of the slot in `PhaseLog.slots`."""
        return self.place, self.name

    @property
    def is_shared(self) -> bool:
        """Whether its value of the phase is that of all ranks. A torchmetrics object exchanges by itself, if it may."""
        return self.options.syncs_epoch or (self.is_metric and not self.options.rank_zero_only)


class Slot:
    """One logged name at one place of a phase: the names and tables it is published under, and its value so far.

    Attributes:
        spec: Its identity.
        given: The options as the newest call gave them. A call with equal ones is not checked again.
        key: The name with the dataloader's index.
        step_key: The name under which values of a batch are published.
        epoch_key: The name under which the value of the phase is published.
        step_tables: The tables for values of a batch, each with the key in it.
        syncs_step: Whether values of a batch are reduced across ranks first.
        running: The value of the phase so far; None if it is not logged ``on_epoch``, or is a torchmetrics object.
        metric: The torchmetrics object, if it is one.
        settled: The value of the phase, where it is known before its end; None within a list where there is none.
        loaders: The dataloaders in whose batches it was logged.
        restored: Whether it comes from a checkpoint and was not logged since.
        logged_in: The dataloader and the batch in which a torchmetrics object was logged last.
        updates: How many updates that object had had then.
    """

    # Read on every call of log(): slots are faster than a dict, and a misspelt attribute is an error.
    __slots__ = (
        "epoch_key", "given", "key", "loaders", "logged_in", "metric", "restored", "running", "settled", "spec",
        "step_key", "step_tables", "syncs_step", "updates",
    )  # fmt: skip

    def __init__(self, spec: SlotSpec, *, several_loaders: bool) -> None:
        options = spec.options
        suffix = f"/dataloader_idx_{spec.place}" if several_loaders and spec.place >= 0 else ""
        both = options.on_step and options.on_epoch
        self.spec = spec
        self.given: Given | None = None
        self.key = spec.name + suffix
        # "x_step" and "x_epoch", before the index of the loader; where there is one value, just "x".
        self.step_key = f"{spec.name}_step{suffix}" if both else self.key
        self.epoch_key = f"{spec.name}_epoch{suffix}" if both else self.key
        self.step_tables: tuple[tuple[Table, str], ...] = ()
        self.syncs_step = False
        self.running = Running(options.reduce_fx) if options.on_epoch and not spec.is_metric else None
        self.metric: Metric | None = None
        self.settled: list[Value | None] = []
        self.loaders: set[int] = set()
        self.restored = False
        self.logged_in: tuple[int, int] | None = None
        self.updates = 0

    def value(self) -> Value | None:
        """Return the value of the phase so far, on this rank; None if a torchmetrics object computed none.

        That of a torchmetrics object is over all ranks: its ``compute`` is a collective.
        """
        if self.settled:
            return self.settled[0]
        if self.metric is not None:
            computed = self.metric.compute()
            if computed is None:
                # Some have nothing to say of a phase, such as one without positives; another may lack its `return`.
                warn(
                    f"compute() of the {type(self.metric).__name__} that is logged as {self.spec.name!r} returned "
                    "None, so it has no value here. If it should have one, see that compute() returns it."
                )
                return None
            return metric_value(self.spec.name, self.metric, computed)
        assert self.running is not None, "only what is logged on_epoch has a value of the phase"
        # validate() runs in inference mode, and what it logs is read outside of it, maybe with autograd.
        with torch.inference_mode(False), torch.no_grad():
            return self.running.value()

    def has_no_value_of_batch(self, metric: Metric) -> str:
        """Return what to say of ``metric``, which is logged for each batch and was only updated."""
        name, kind = self.spec.name, type(metric).__name__
        if self.spec.options.on_epoch:
            return (
                f"self.log({name!r}, {kind}, on_step=True): there is no {self.step_key!r}, since update() computes no "
                "value of the batch. Call the metric instead, metric(prediction, label), or leave out on_step."
            )
        return (
            f"self.log({name!r}, {kind}) goes nowhere: it is logged for each batch (on_step), as by default in "
            "training, and update() computes no value of a batch. Call the metric instead, metric(prediction, label), "
            "or give self.log(..., on_step=False, on_epoch=True) for the value of the epoch."
        )

    def settle(self) -> None:
        """Keep the value so far as that of the phase: what the torchmetrics object gets later is not of this slot."""
        self.settled = [self.value()]

    def continue_from(self, older: Slot) -> None:
        """Take over what ``older`` collected before a checkpoint, unless it was reduced in another way."""
        # A sum so far is no mean so far: with another reduce_fx the value starts again with the resumed batches.
        if self.running and older.running and self.running.reduce_fx == older.running.reduce_fx:
            self.running = older.running
        self.metric, self.settled = older.metric, older.settled
        self.loaders |= older.loaders

    def state_dict(self, metric_path: str | None) -> dict[str, Any]:
        """Return all attributes but the tables, as plain values and tensors.

        Args:
            metric_path: The place of the torchmetrics object; None if it is no such object.
        """
        spec = self.spec
        return {
            "name": spec.name,
            "place": spec.place,
            "options": dataclasses.asdict(spec.options),
            "is_metric": spec.is_metric,
            "loaders": sorted(self.loaders),
            "running": self.running.state_dict() if self.running else None,
            "metric_path": metric_path,
            "settled": list(self.settled),
        }
