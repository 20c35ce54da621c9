"""What ranks go on with that are another number than those which saved a checkpoint in the middle of an epoch."""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from trainkit.data.resume.cursor import moved
from trainkit.errors import StateError
from trainkit.metrics.options import LogOptions
from trainkit.types import Phase

MORE_METRICS = "torchmetrics_of_others"
"""In the metrics of a rank: what other ranks had in torchmetrics objects, which it goes on with."""

Saved = dict[str, Any]


def state_for(ranks: Sequence[Saved], rank: int, world_size: int) -> Saved:
    """Return what ``rank`` of ``world_size`` goes on with, of what other ``ranks`` have saved.

    Together they have what those had together: sums of metrics are there once. For an open accumulation group see
    `group_of_all`.

    Raises:
        StateError: If something of a rank cannot be shared out.
    """
    number = rank % len(ranks)
    mine = {**ranks[number]}
    mine["metrics"] = metrics_for([each["metrics"] for each in ranks], rank, world_size)
    train = mine["data"]["train"]
    if train is not None:
        new = rank if rank >= len(ranks) else None
        cursors = [moved(each, number, len(ranks), new=new) for each in train["cursors"]]
        mine["data"] = {**mine["data"], "train": {**train, "cursors": cursors}}
    return mine


def beginning_of_validation(mine: Saved, now: Saved) -> Saved:
    """Return the random numbers with which the validation began that is under way; ``now`` where that is not known."""
    first = next((each["began"] for each in mine["data"]["val"][0]["cursors"]), None) if mine["data"]["val"] else None
    began: Saved = now if first is None else first["global"]
    return began


def group_of_all(groups: Sequence[Saved | None], world_size: int) -> Saved | None:
    """Return the accumulation group with which each of ``world_size`` ranks goes on.

    Ranks average their gradients when the group closes. So each begins with the mean of all, or, where losses are sums
    that come with weights, with its share of the sum.
    """
    open_groups = [each for each in groups if each is not None]
    if not open_groups:
        return None
    first = open_groups[0]
    parts = world_size if first["divisor"] == 0 else len(groups)
    names = dict.fromkeys(name for each in open_groups for name in each["gradients"])
    gradients = {
        name: sum_of([each["gradients"][name] for each in open_groups if name in each["gradients"]]) / parts
        for name in names
    }
    weight, loss = (sum_of([each.get(key, 0.0) for each in open_groups]) / parts for key in ("weight", "loss"))
    return {"divisor": first["divisor"], "weight": weight, "loss": loss, "gradients": gradients}


def metrics_for(states: Sequence[Saved], rank: int, world_size: int) -> Saved:
    """Return the logged values with which ``rank`` goes on: those of every ``world_size``-th rank, from its own on.

    Raises:
        StateError: If a torchmetrics object of training is used by a validation too that is under way.
    """
    own = states[rank % len(states)]
    given = states[rank::world_size]
    validation = own["phases"].get(Phase.VALIDATE.value, {})
    if any(validation.get("aside", {}).get("around", ())):
        raise StateError("a validation is under way that uses a torchmetrics object of training")
    phases = {}
    for name, phase in own["phases"].items():
        slots = [_slot_of(slot, [_slots_by_key(each, name) for each in given]) for slot in phase["slots"]]
        phases[name] = {**phase, "slots": slots}
        for other in given[1:]:  # what only another rank has logged
            known = {_key(slot) for slot in slots}
            slots += [slot for key, slot in _slots_by_key(other, name).items() if key not in known]
    metrics = {**own, "phases": phases, "torchmetrics": given[0]["torchmetrics"] if given else {}}
    return {**metrics, MORE_METRICS: [each["torchmetrics"] for each in given[1:]]}


def _slot_of(slot: Saved, others: Sequence[Mapping[Any, Saved]]) -> Saved:
    """Return ``slot`` with what ``others`` have under its key; nothing at all where there are none."""
    # A value that each rank keeps for itself stays that of one.
    if slot["running"] is None or not LogOptions(**slot["options"]).syncs_epoch:
        return slot
    runnings = [found["running"] for each in others if (found := each.get(_key(slot))) and found["running"]]
    return {**slot, "running": running_of_all(slot["running"], runnings)}


def running_of_all(own: Saved, runnings: Sequence[Saved]) -> Saved:
    """Return the reduction of all ``runnings``, of the kind of ``own``."""
    reduce_fx = own["reduce_fx"]
    weight = sum(each["weight"] for each in runnings)
    if reduce_fx in ("mean", "sum"):
        total = sum_of([each["total"] for each in runnings])
    else:
        extreme = torch.minimum if reduce_fx == "min" else torch.maximum  # both keep a NaN
        total = math.inf if reduce_fx == "min" else -math.inf
        for each in runnings:
            total = extreme(*(torch.as_tensor(value, dtype=torch.float64) for value in (total, each["total"])))
        if not any(isinstance(each["total"], Tensor) for each in runnings):
            total = float(total)
    return {**own, "total": copy.deepcopy(total), "weight": weight}


def sum_of(values: Sequence[Any]) -> Any:
    """Return the sum of numbers or tensors; 0.0 of nothing."""
    return sum(values[1:], values[0]) if values else 0.0


def _slots_by_key(state: Saved, phase: str) -> dict[Any, Saved]:
    return {_key(slot): slot for slot in state["phases"].get(phase, {}).get("slots", ())}


def _key(slot: Saved) -> tuple[Any, Any]:
    return slot["place"], slot["name"]
