"""Merging what was logged for the parts of a split batch into what the whole batch would have logged."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from trainkit.errors import MetricError
from trainkit.metrics.options import resolve
from trainkit.metrics.running import widest
from trainkit.metrics.scalars import is_number, refuse_complex
from trainkit.types import Phase

Logged = tuple[str, Any, list[Any]]
"""One call of ``log``: name, value, and the other arguments in the order in which `TrainModule.log` passes them on."""
_BATCH_SIZE = 7  # the index of ``batch_size`` among them; the others are the fields of LogOptions, in their order
_REDUCTIONS: dict[str, Callable[..., Tensor]] = {"sum": torch.sum, "min": torch.amin, "max": torch.amax}


def note(log: list[Logged], name: str, value: Any, *options: Any) -> None:
    """Append one call of ``log`` to a list; it stands in for `MetricCollector.log` while parts are computed."""
    # detach: a kept graph would keep every activation of its part, and parts are made to save memory.
    # clone: the step may change the tensor in place before the parts are merged.
    log.append((name, value.detach().clone() if isinstance(value, Tensor) else value, list(options)))


def merge_logs(
    logs: Sequence[Sequence[Logged]], samples: Sequence[int], device: torch.device, *, share_objects: bool = False
) -> list[Logged]:
    """Return the calls of ``log`` that would have been made for the whole batch, given those for each part.

    Args:
        logs: The calls, for each part.
        samples: How many samples each part has.
        device: The device of the merged values.
        share_objects: Whether all parts logged the same torchmetrics objects, one after the other. Otherwise each part
            has a replica of the module, and so of its objects, and these cannot be merged.

    Raises:
        MetricError: If a value cannot be merged.
    """
    calls: dict[tuple[str, int], list[tuple[Logged, int]]] = {}
    for log, count in zip(logs, samples, strict=True):
        times: Counter[str] = Counter()
        for logged in log:
            # A step may log one name more than once: the n-th calls of all parts belong together.
            times[logged[0]] += 1
            calls.setdefault((logged[0], times[logged[0]]), []).append((logged, count))
    return [_merge(same, device, share_objects) for same in calls.values()]


def _merge(calls: list[tuple[Logged, int]], device: torch.device, share_objects: bool) -> Logged:
    (name, value, given), _ = calls[0]
    if not all(isinstance(logged[1], Tensor) or is_number(logged[1]) for logged, _ in calls):
        if share_objects:
            # After the last part the object has seen all samples, so one call logs it for the whole batch.
            return calls[-1][0]
        raise MetricError(
            f"log({name!r}) got a {type(value).__name__} in a replica of strategy 'dp', which gathers only numbers and "
            "tensors:\neach replica would have a state of its own. Log a number, use one device, or strategy='ddp'."
        )
    refuse_complex(name, value)
    # Wide, so that neither a Python number nor a sum of halves or of whole numbers is rounded.
    values = [torch.as_tensor(logged[1], dtype=widest(device), device=device).detach() for logged, _ in calls]
    options, counts = list(given), [count for _, count in calls]
    # Weights that the user gave are those of the parts: the whole batch weighs their sum.
    if all(logged[2][_BATCH_SIZE] is not None for logged, _ in calls):
        counts = [logged[2][_BATCH_SIZE] for logged, _ in calls]
        options[_BATCH_SIZE] = sum(counts)
    # Resolved for its spelling alone ("avg", torch.mean), which does not depend on the phase.
    reduce_fx = resolve(name, (*given[:_BATCH_SIZE], *given[_BATCH_SIZE + 1 :]), Phase.TRAIN, in_batch=True).reduce_fx
    merged = _mean(values, counts) if reduce_fx == "mean" else _REDUCTIONS[reduce_fx](torch.stack(values), dim=0)
    # float32 stays what it would be for the whole batch.
    is_single = isinstance(value, Tensor) and value.dtype is torch.float32
    return name, merged.float() if is_single else merged, options


def _mean(values: Sequence[Tensor], counts: Sequence[float]) -> Tensor:
    # One part is the whole batch: no arithmetic, so that its value stays the same bit for bit.
    if len(values) == 1:
        return values[0]
    # Divided once, at the end: shares such as 1/3 would be rounded, and whole numbers with them.
    weighed = torch.stack([value * count for value, count in zip(values, counts, strict=True)])
    return weighed.sum(dim=0) / (sum(counts) or 1)  # parts without samples
