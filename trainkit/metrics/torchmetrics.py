"""torchmetrics objects: recognised without importing torchmetrics, and their state kept for a run that continues."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import Any, Protocol, TypeGuard

from torch import Tensor, nn


class Metric(Protocol):
    """What is used of a ``torchmetrics.Metric``."""

    _forward_cache: Any
    _computed: Any
    _update_count: int

    @property
    def metric_state(self) -> dict[str, Any]:
        """The states by name: tensors, or lists."""

    def compute(self) -> Any:
        """Return the value of everything since the last reset, on all ranks."""

    def reset(self) -> None:
        """Forget everything."""


def is_metric(value: object) -> TypeGuard[Metric]:
    """Whether ``value`` is a ``torchmetrics.Metric``. If nobody imported torchmetrics, nothing is."""
    return _is_a(value, "Metric")


def is_metric_collection(value: object) -> bool:
    """Whether ``value`` is a ``torchmetrics.MetricCollection``."""
    return _is_a(value, "MetricCollection")


def metric_states(module: nn.Module) -> dict[str, Any]:
    """Return the state of every torchmetrics object within ``module`` that has seen data, by its place in it.

    Unless made persistent they are not in ``module.state_dict()``, and a run that continues in mid-epoch needs them.
    """
    return {
        name: {"update_count": metric._update_count, "states": {k: _copied(v) for k, v in metric.metric_state.items()}}
        for name, metric in _metrics(module)
        if metric._update_count
    }


def load_metric_states(module: nn.Module, states: dict[str, Any]) -> None:
    """Give torchmetrics objects within ``module`` what `metric_states` returned. Some may be gone, some new."""
    for name, metric in _metrics(module):
        if name in states:
            for key, value in states[name]["states"].items():
                setattr(metric, key, _moved(value, metric))
            metric._update_count = states[name]["update_count"]
            metric._computed = None


def reset_metrics(module: nn.Module) -> None:
    """Let every torchmetrics object within ``module`` forget what it has seen."""
    for _, metric in _metrics(module):
        metric.reset()


def _is_a(value: object, kind: str) -> bool:
    torchmetrics = sys.modules.get("torchmetrics")
    cls = getattr(torchmetrics, kind, None)  # missing while torchmetrics is still being imported
    return cls is not None and isinstance(value, cls)


def _metrics(module: nn.Module) -> Iterator[tuple[str, Any]]:
    return ((name, child) for name, child in module.named_modules() if is_metric(child))


def _copied(state: Any) -> Any:
    """Return ``state`` so that what the metric takes in later does not change it."""
    return state.clone() if isinstance(state, Tensor) else list(state)


def _moved(state: Any, metric: Any) -> Any:
    if isinstance(state, Tensor):
        return state.to(metric.device, copy=True)
    return [_moved(item, metric) if isinstance(item, Tensor) else item for item in state]
