"""The end of a phase: every name gets its value, the same on every rank."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from trainkit.errors import MetricError
from trainkit.metrics.phase import PhaseLog
from trainkit.metrics.ranks import Ranks, reduce_over_ranks
from trainkit.metrics.slots import Slot, SlotSpec


def settle(log: PhaseLog, slots: Sequence[Slot], ranks: Ranks) -> None:
    """Publish the value of each of ``slots``. What was collected stays as it is, so this may be done again.

    Every rank must come here.

    Raises:
        MetricError: If ranks logged one name in different ways; then on every rank, so that none is left waiting.
    """
    several = ranks.world_size > 1
    if several:
        slots = _of_all_ranks(log, slots, ranks)
    shared = {slot: slot.running for slot in slots if several and slot.spec.options.syncs_epoch and slot.running}
    # What users read later must not be a tensor of inference mode.
    with torch.inference_mode(False), torch.no_grad():
        reduced = dict(zip(shared, reduce_over_ranks(list(shared.values()), ranks), strict=True))
    for slot in slots:
        log.publish_epoch(slot, reduced[slot] if slot in reduced else slot.value())


def _of_all_ranks(log: PhaseLog, slots: Sequence[Slot], ranks: Ranks) -> list[Slot]:
    """Return the slots that any rank has, in one order: a rank that saw no batch lacks some. Local ones come first."""
    local = [slot for slot in slots if not slot.spec.options.syncs_epoch]
    offered = [
        (slot.spec, slot.loaders, slot.running.dtype if slot.running else None) for slot in slots if slot not in local
    ]
    everyone = ranks.all_gather_object(offered)
    _refuse_missing_metrics([[spec for spec, _, _ in offer] for offer in everyone])
    agreed: dict[tuple[int, str], Slot] = {}
    for spec, loaders, dtype in (entry for offer in everyone for entry in offer):
        slot = agreed[spec.key] = log.adopt(spec)
        slot.loaders |= loaders
        if slot.running:
            slot.running.dtype = slot.running.dtype or dtype
    return local + list(agreed.values())


def _refuse_missing_metrics(specs: Sequence[Sequence[SlotSpec]]) -> None:
    """Raise if a torchmetrics object was not logged on every rank: it would wait for the others in compute()."""
    names = [{spec.name for spec in offer if spec.is_metric} for offer in specs]
    for rank, own in enumerate(names):
        for name in sorted(set().union(*names) - own):
            raise MetricError(
                f"the torchmetrics object {name!r} was logged on some ranks, but not on rank {rank}.\n"
                "    to do        log it on every rank, in every epoch; give rank "
                f"{rank} at least one batch"
            )
