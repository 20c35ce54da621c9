"""What one place of a checkpoint says and another denies, in files whose layout is right."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

_BY_INDEX = ("checksum", "samples", "batch_size")
_OF_KIND = {"IndexCursor": _BY_INDEX, "TensorCursor": _BY_INDEX, "StatefulCursor": ("loader",)}
"""What the place in a loader of some kind cannot be found without."""


def contradictions(checkpoint: Mapping[str, Any]) -> Iterator[str]:
    """Yield what one place says and another denies: one of the two would be passed over in silence."""
    fit, ranks = checkpoint["loops"]["fit"], checkpoint["trainkit"]["ranks"]
    for name in ("epoch", "global_step"):
        if checkpoint[name] != fit[name]:
            yield f"{name} is {checkpoint[name]}, and loops.fit.{name} is {fit[name]}"
    # Lightning keeps nothing of the kind, and its files may have been converted into this layout.
    if not ranks and not checkpoint["trainkit"]["version"].startswith("Lightning"):
        yield "trainkit.ranks is empty"
    is_amid = fit["batch"] and not fit.get("is_last") and not fit.get("epoch_ended")
    for index, rank in enumerate(ranks):
        place = f"trainkit.ranks[{index}]"
        if fit.get("group_batches") and rank["group"] is None:
            yield f"{place}.group is None, and loops.fit.group_batches is {fit['group_batches']}"
        if is_amid and rank["data"]["train"] is None:
            yield f"{place}.data.train is None, and loops.fit.batch is {fit['batch']}"
    # A made-up file may hold one object in many places.
    for place, data in _once((f"trainkit.ranks[{index}].data", rank["data"]) for index, rank in enumerate(ranks)):
        for loader in (data["train"], *data["val"]):
            for cursor in loader["cursors"] if loader else ():
                if cursor["given"] and cursor["began"] is None:
                    yield f"a loader in {place} has given {cursor['given']} batches of a pass that has not begun"
                if lacking := [name for name in _OF_KIND.get(cursor["kind"], ()) if name not in cursor]:
                    yield f"a loader in {place}, of kind {cursor['kind']}, has no {', '.join(lacking)}"
    phases = (
        (f"trainkit.ranks[{index}].metrics.phases.{phase}", log)
        for index, rank in enumerate(ranks)
        for phase, log in rank["metrics"]["phases"].items()
    )
    for place, log in _once(phases):
        count = log["num_dataloaders"]
        loaders = [loader for slot in log["slots"] for loader in (slot["place"], *slot["loaders"])]
        if max(loaders, default=-1) >= count:
            yield f"{place} has {count} dataloaders, and values of number {max(loaders)}"


def _once(places: Iterable[tuple[str, Any]]) -> Iterator[tuple[str, Any]]:
    """Yield each object with the first of its places."""
    seen: set[int] = set()
    for place, value in places:
        if id(value) not in seen:
            seen.add(id(value))
            yield place, value
