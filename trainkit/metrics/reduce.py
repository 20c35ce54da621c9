"""Reducing a phase at its end: every logged name gets its value, the same on every rank, by one exchange."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import nullcontext
from typing import Any, NamedTuple

import torch

from trainkit.errors import MetricError
from trainkit.metrics.phase import PhaseLog
from trainkit.metrics.ranks import Ranks, Totals, reduce_over_ranks, totals_of
from trainkit.metrics.scalars import Value
from trainkit.metrics.slots import Slot, SlotSpec
from trainkit.metrics.synced import States, alone, states_to_send, synced
from trainkit.metrics.torchmetrics import Metric

Places = Mapping[str, Metric]
"""The torchmetrics objects of a module by their place in it, which is the same on all ranks."""


class _Offer(NamedTuple):
    """What one rank has of a name.

    Attributes:
        spec: The identity of the name.
        loaders: In batches of which loaders it was logged.
        totals: Its total and its weight; None of a torchmetrics object.
        metric: The number of the object among those that the rank sends, and its place in the module; else None.
    """

    spec: SlotSpec
    loaders: set[int]
    totals: Totals | None
    metric: tuple[int, str | None] | None


class _Sent(NamedTuple):
    """All that one rank sends."""

    offers: list[_Offer]
    states: list[States]
    note: Any


def reduce_epoch(
    log: PhaseLog, slots: Sequence[Slot], ranks: Ranks, places: Places | None = None, note: Any = None
) -> list[Any]:
    """Publish the value of each of ``slots`` over the phase, and over all ranks unless it is logged locally.

    Collective: every rank must call it. The running values are not changed, so it may be called again.

    Args:
        log: The phase.
        slots: What to reduce.
        ranks: The collectives of this process.
        places: The torchmetrics objects of the module.
        note: What else to tell the other ranks, as they are exchanging.

    Returns:
        The notes of all ranks, in their order.

    Raises:
        MetricError: If ranks logged one name in different ways; then on every rank, so that none is left waiting.
    """
    if ranks.world_size == 1:
        for slot in slots:
            log.publish_epoch(slot, slot.value())
        return [note]
    # Tensors made in inference mode could not be used with autograd later, and users keep what they read.
    with torch.inference_mode(False), torch.no_grad():
        values, notes = _over_ranks(log, [slot for slot in slots if slot.spec.is_shared], ranks, places or {}, note)
    for slot in slots:
        if not slot.spec.is_shared:
            with nullcontext() if slot.metric is None else alone(slot.metric):
                log.publish_epoch(slot, slot.value())
    for slot, value in values.items():
        log.publish_epoch(slot, value, is_shared=True)
    return notes


def settle_metrics(log: PhaseLog, slots: Sequence[Slot], ranks: Ranks, places: Places | None = None) -> None:
    """Settle the values of ``slots``, of torchmetrics objects, ahead of the end of the phase.

    Collective: every rank must call it.

    Raises:
        MetricError: If an object was logged on some ranks only, and is not found on the others.
    """
    if ranks.world_size == 1:
        for slot in slots:
            slot.settle()
        return
    values, _ = _over_ranks(log, slots, ranks, places or {}, None)
    for slot, value in values.items():
        slot.settled = [value]


def _over_ranks(
    log: PhaseLog, slots: Iterable[Slot], ranks: Ranks, places: Places, note: Any
) -> tuple[dict[Slot, Value | None], list[Any]]:
    """Return the value over all ranks of every slot that any of them has, and their notes.

    A rank that saw no batch lacks slots, and ranks may have logged names in different orders.
    """
    everyone: list[_Sent] = ranks.all_gather_object(_offered(list(slots), places, note))
    found: dict[tuple[int, str], list[_Offer | None]] = {}
    for rank, sent in enumerate(everyone):
        for offer in sent.offers:
            # Raises if this rank has other options for the name, and makes an empty slot if it has none.
            log.adopt(offer.spec).loaders.update(offer.loaders)
            found.setdefault(offer.spec.key, [None] * len(everyone))[rank] = offer
    agreed = {key: log.slots[key] for key in found}
    numbers = [key for key, slot in agreed.items() if not slot.spec.is_metric]
    reduced = reduce_over_ranks(
        [agreed[key].spec.options.reduce_fx for key in numbers],
        [[None if offer is None else offer.totals for offer in found[key]] for key in numbers],
        ranks.device,
    )
    values: dict[Slot, Value | None] = {agreed[key]: value for key, value in zip(numbers, reduced, strict=True)}
    computed: dict[int, Value | None] = {}
    for key, slot in agreed.items():
        if slot.spec.is_metric:
            values[slot] = _computed(slot, found[key], everyone, places, computed)
    # In the order in which they came, whatever their kind.
    return {slot: values[slot] for slot in agreed.values()}, [sent.note for sent in everyone]


def _offered(slots: list[Slot], places: Places, note: Any) -> _Sent:
    totals = totals_of([slot.running for slot in slots if slot.running is not None])
    by_slot = dict(zip([slot for slot in slots if slot.running is not None], totals, strict=True))
    names = {id(metric): place for place, metric in places.items()}
    metrics = {id(slot.metric): slot.metric for slot in slots if slot.metric is not None}
    numbers = {key: number for number, key in enumerate(metrics)}
    offers = [
        _Offer(
            slot.spec,
            slot.loaders,
            by_slot.get(slot),
            None if slot.metric is None else (numbers[id(slot.metric)], names.get(id(slot.metric))),
        )
        for slot in slots
    ]
    return _Sent(offers, [states_to_send(metric) for metric in metrics.values()], note)


def _computed(
    slot: Slot,
    offers: Sequence[_Offer | None],
    everyone: Sequence[_Sent],
    places: Places,
    computed: dict[int, Value | None],
) -> Value | None:
    """Return the value of a torchmetrics object over all ranks."""
    if slot.settled:
        return slot.settled[0]
    if slot.metric is None:
        # This rank had no batch in which it was logged; the module has the same object here.
        given = next((offer.metric[1] for offer in offers if offer is not None and offer.metric is not None), None)
        slot.metric = places.get(given or "")
    for rank, offer in enumerate(offers):
        # On every rank alike: where nobody has a place for it, those that lack it cannot take part.
        if offer is None and (slot.metric is None or _place_of(offers) is None):
            _refuse_missing(slot.spec.name, rank)
    metric = slot.metric
    if metric is None:
        return slot.value()
    states = [
        everyone[rank].states[offer.metric[0]] if offer is not None and offer.metric is not None else {}
        for rank, offer in enumerate(offers)
    ]
    with synced(metric, states):
        return slot.value()


def _place_of(offers: Iterable[_Offer | None]) -> str | None:
    return next((offer.metric[1] for offer in offers if offer is not None and offer.metric is not None), None)


def _refuse_missing(name: str, rank: int) -> None:
    """Raise: a torchmetrics object was not logged on every rank, and its value is that of all of them."""
    raise MetricError(
        f"the torchmetrics object {name!r} was logged on some ranks, but not on rank {rank}, where it is not found.\n"
        "    to do        make it an attribute of the module, on every rank"
    )
