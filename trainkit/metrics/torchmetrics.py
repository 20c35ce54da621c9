"""torchmetrics objects: recognised without importing torchmetrics, and saved for a run that resumes in mid-epoch."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import Any, Protocol, TypeGuard

from torch import Tensor, nn


class Metric(Protocol):
    """The part of ``torchmetrics.Metric`` that trainkit uses."""

    # Private in torchmetrics, which offers no other way to the value of a batch and to the count of updates.
    _forward_cache: Any
    _computed: Any
    _update_count: int

    @property
    def metric_state(self) -> dict[str, Any]:
        """The states by name: tensors, or lists of them."""

    def compute(self) -> Any:
        """Return the value of everything since the last reset, on all ranks."""

    def reset(self) -> None:
        """Set all states to their defaults."""


def is_metric(value: object) -> TypeGuard[Metric]:
    """Whether ``value`` is a ``torchmetrics.Metric``. Nothing is, as long as torchmetrics has not been imported."""
    return _is_a(value, "Metric")


def is_metric_collection(value: object) -> bool:
    """Whether ``value`` is a ``torchmetrics.MetricCollection``."""
    return _is_a(value, "MetricCollection")


def metric_states(module: nn.Module) -> dict[str, Any]:
    """Return a copy of the states of every torchmetrics object within ``module`` that has seen data, by its place.

    ``module.state_dict()`` has only those that were made persistent, and a run that resumes in mid-epoch needs all.
    """
    return {
        name: {"update_count": metric._update_count, "states": {k: _copied(v) for k, v in metric.metric_state.items()}}
        for name, metric in _metrics(module)
        if metric._update_count
    }


def load_metric_states(module: nn.Module, states: dict[str, Any]) -> None:
    """Restore what `metric_states` returned. Objects that are gone or new since then are passed over."""
    for name, metric in _metrics(module):
        if name in states:
            for key, value in states[name]["states"].items():
                setattr(metric, key, _moved(value, metric))
            # Without a count, compute() warns that it was called before update().
            metric._update_count = states[name]["update_count"]
            metric._computed = None  # the cached result of compute(), which is that of other states


def reset_metrics(module: nn.Module) -> None:
    """Reset every torchmetrics object within ``module``."""
    for _, metric in _metrics(module):
        metric.reset()


def _is_a(value: object, kind: str) -> bool:
    # Importing it takes about two seconds. If nobody has imported it, no object of it can exist.
    torchmetrics = sys.modules.get("torchmetrics")
    cls = getattr(torchmetrics, kind, None)  # missing while torchmetrics is still being imported
    return cls is not None and isinstance(value, cls)


def _metrics(module: nn.Module) -> Iterator[tuple[str, Any]]:
    return ((name, child) for name, child in module.named_modules() if is_metric(child))


def _copied(state: Any) -> Any:
    """Return a copy that later updates of the metric do not change."""
    # update() appends to a list, and leaves the tensors in it alone, so these need no copy.
    return state.clone() if isinstance(state, Tensor) else list(state)


def _moved(state: Any, metric: Any) -> Any:
    if isinstance(state, Tensor):
        return state.to(metric.device, copy=True)
    return [_moved(item, metric) if isinstance(item, Tensor) else item for item in state]
