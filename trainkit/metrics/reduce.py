"""Reducing a phase at its end: every logged name gets its value, the same on every rank."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from trainkit.errors import MetricError
from trainkit.metrics.phase import PhaseLog
from trainkit.metrics.ranks import Ranks, reduce_over_ranks
from trainkit.metrics.scalars import Value
from trainkit.metrics.slots import Slot, SlotSpec


def reduce_epoch(log: PhaseLog, slots: Sequence[Slot], ranks: Ranks) -> None:
    """Publish the value of each of ``slots`` over the phase, and over all ranks unless it is logged locally.

    Collective: every rank must call it. The running values are not changed, so it may be called again.

    Raises:
        MetricError: If ranks logged one name in different ways; then on every rank, so that none is left waiting.
    """
    several = ranks.world_size > 1
    if several:
        slots = _equal_on_all_ranks(log, slots, ranks)
    # torchmetrics objects are not among them: their compute() exchanges states between ranks itself.
    shared = {slot: slot.running for slot in slots if several and slot.spec.options.syncs_epoch and slot.running}
    reduced: dict[Slot, Value] = {}
    if several:
        # Tensors made in inference mode could not be used with autograd later, and users keep what they read.
        with torch.inference_mode(False), torch.no_grad():
            reduced = dict(zip(shared, reduce_over_ranks(list(shared.values()), ranks), strict=True))
    for slot in slots:
        log.publish_epoch(slot, reduced[slot] if slot in reduced else slot.value())


def settle_metrics(log: PhaseLog, slots: Sequence[Slot], ranks: Ranks) -> None:
    """Settle the values of ``slots``, of torchmetrics objects, ahead of the end of the phase.

    Collective: every rank must call it.

    Raises:
        MetricError: If an object was logged on some ranks only.
    """
    for slot in _equal_on_all_ranks(log, slots, ranks) if ranks.world_size > 1 else slots:
        slot.settle()


def _equal_on_all_ranks(log: PhaseLog, slots: Sequence[Slot], ranks: Ranks) -> list[Slot]:
    """Return the slots that any rank has: local ones, then the shared ones in an order that is the same on every rank.

    A rank that saw no batch lacks slots, and ranks may have logged names in different orders; collectives need the same
    slots in the same order everywhere.
    """
    local = [slot for slot in slots if not slot.spec.options.syncs_epoch]
    offered = [(slot.spec, slot.loaders) for slot in slots if slot not in local]
    # Ranks exchange only what the slots are; their values follow in one collective per operation.
    everyone = ranks.all_gather_object(offered)
    _refuse_missing_metrics([[spec for spec, _ in offer] for offer in everyone])
    agreed: dict[tuple[int, str], Slot] = {}
    for spec, loaders in (entry for offer in everyone for entry in offer):
        # Raises if this rank has other options for the name, and makes an empty slot if it has none.
        slot = agreed[spec.key] = log.adopt(spec)
        slot.loaders |= loaders
    return local + list(agreed.values())


def _refuse_missing_metrics(specs: Sequence[Sequence[SlotSpec]]) -> None:
    """Raise if a torchmetrics object was not logged on every rank: its compute() would wait for the others forever."""
    names = [{spec.name for spec in offer if spec.is_metric} for offer in specs]
    for rank, own in enumerate(names):
        for name in sorted(set().union(*names) - own):
            raise MetricError(
                f"the torchmetrics object {name!r} was logged on some ranks, but not on rank {rank}.\n"
                "    to do        log it on every rank, in every epoch; give rank "
                f"{rank} at least one batch"
            )
