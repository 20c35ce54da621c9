"""torchmetrics objects: recognised without importing torchmetrics, and saved for a run that resumes in mid-epoch."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from typing import Any, Protocol, TypeGuard

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from trainkit.errors import StateError
from trainkit.storage.walk import place_of_entry, walk_attributes

Plugins = Iterable[tuple[str, object]]


class Metric(Protocol):
    """The part of ``torchmetrics.Metric`` that trainkit uses."""

    # Private in torchmetrics, which offers no other way to the value of a batch, to the count of updates, and to how
    # the states of two parts of the data become one.
    _forward_cache: Any
    _computed: Any
    _update_count: int
    _reductions: dict[str, Any]

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


def has_data(metric: Metric) -> bool:
    """Return whether ``metric`` was updated since its last reset."""
    return metric._update_count > 0


def num_updates(metric: Metric) -> int:
    """Return how often ``metric`` was updated since its last reset."""
    return metric._update_count


def is_compound(metric: Metric) -> bool:
    """Return whether ``metric`` is made of other metrics, such as those of ``torchmetrics.wrappers``."""
    return isinstance(metric, nn.Module) and any(is_metric(child) for child in metric.modules() if child is not metric)


def state_of(metric: Metric) -> dict[str, Any]:
    """Return a copy of what ``metric`` holds."""
    states = {name: _copied(state) for name, state in metric.metric_state.items()}
    return {"update_count": metric._update_count, "states": states}


def check_state(metric: Metric, state: dict[str, Any], place: str) -> None:
    """Raise `StateError` if ``state``, which is at ``place`` of a file, is not what ``metric`` holds.

    It may be set as attributes then, which could be any otherwise.
    """
    own, states = metric.metric_state, state["states"]
    if own.keys() != states.keys():
        raise StateError(f"{place} has the states {[*states]}, and a {type(metric).__name__} {[*own]}")
    for name, value in states.items():
        # What is concatenated over batches is a list, and one tensor once it was exchanged between ranks.
        if isinstance(value, list) and not isinstance(own[name], list):
            raise StateError(f"{place}.states.{name} is a list, and in a {type(metric).__name__} a tensor")


def load_state(metric: Metric, state: dict[str, Any]) -> None:
    """Let ``metric`` hold what `state_of` returned, and nothing else."""
    for name, value in state["states"].items():
        setattr(metric, name, _moved(value, metric))
    # Without a count, compute() warns that it was called before update().
    metric._update_count = state["update_count"]
    metric._computed = None  # the cached result of compute(), which is that of other states


def merge_state(metric: Metric, earlier: dict[str, Any]) -> bool:
    """Let ``metric`` also hold what it held ``earlier``, as ranks merge their states; return whether that can be.

    Where it cannot, ``metric`` is left as it is.
    """
    if not has_data(metric):
        load_state(metric, earlier)
        return True
    states = {name: _merged(metric, name, earlier) for name in earlier["states"]}
    if any(state is None for state in states.values()):
        return False
    load_state(metric, {"update_count": earlier["update_count"] + metric._update_count, "states": states})
    return True


def reset(metric: Metric) -> None:
    """Reset ``metric``, so that it can be used in every mode afterwards."""
    # reset() makes new states; made in inference mode, a later phase outside it could not change them in place.
    with torch.inference_mode(False):
        metric.reset()


def find_metrics(module: nn.Module, plugins: Plugins = ()) -> dict[str, Any]:
    """Return every torchmetrics object by its place: those of ``module``, also in plain lists, and those of plugins.

    Args:
        module: The module.
        plugins: Names and plugins; the module itself may be among them.
    """
    if "torchmetrics" not in sys.modules:
        return {}
    children = dict(module.named_modules())
    owners = [*children.items(), *((f"{name}:", plugin) for name, plugin in plugins if plugin is not module)]
    candidates = [*children.items(), *(candidate for owner in owners for candidate in _in_attributes(*owner))]
    # The first place of each: a list often has once more what is registered as a submodule.
    places = {id(value): place for place, value in reversed(candidates) if is_metric(value)}
    return {place: value for place, value in candidates if places.get(id(value)) == place}


def metric_states(module: nn.Module, plugins: Plugins = ()) -> dict[str, Any]:
    """Return a copy of the states of all that `find_metrics` finds and that has seen data, by its place.

    ``module.state_dict()`` has only those that were made persistent, and a run that resumes in mid-epoch needs all.
    """
    return {name: state_of(metric) for name, metric in find_metrics(module, plugins).items() if has_data(metric)}


def load_metric_states(module: nn.Module, states: dict[str, Any], plugins: Plugins = ()) -> None:
    """Restore what `metric_states` returned. Objects that are gone or new since then are passed over."""
    for name, metric in find_metrics(module, plugins).items():
        if name in states:
            check_state(metric, states[name], f"torchmetrics.{name}")
            load_state(metric, states[name])


def merge_metric_states(module: nn.Module, states: dict[str, Any], plugins: Plugins = ()) -> None:
    """Let each torchmetrics object also hold what `metric_states` returned on another rank.

    Raises:
        StateError: If one cannot hold both.
    """
    for name, metric in find_metrics(module, plugins).items():
        if name in states:
            check_state(metric, states[name], f"torchmetrics.{name}")
            if is_compound(metric) or not merge_state(metric, states[name]):
                raise StateError(f"a {type(metric).__name__} cannot go on with what it held on several ranks")


def reset_metrics(module: nn.Module) -> None:
    """Reset every torchmetrics object that ``module`` holds."""
    for metric in find_metrics(module).values():
        metric.reset()


def _is_a(value: object, kind: str) -> bool:
    # Importing it takes about two seconds. If nobody has imported it, no object of it can exist.
    torchmetrics = sys.modules.get("torchmetrics")
    cls = getattr(torchmetrics, kind, None)  # missing while torchmetrics is still being imported
    return cls is not None and isinstance(value, cls)


def _in_attributes(name: str, owner: object) -> Iterator[tuple[str, nn.Module]]:
    """Yield the modules, with their places, that attributes of ``owner`` hold on their own or in plain containers."""
    for place, value in walk_attributes(owner, name):
        # An average of the module has copies of its metrics, to which nobody logs.
        if isinstance(value, nn.Module) and not isinstance(value, AveragedModel):
            yield from (
                (place_of_entry(child, place) if child else place, each) for child, each in value.named_modules()
            )


def _merged(metric: Metric, name: str, earlier: dict[str, Any]) -> Any:
    """Return the state ``name`` of all that ``metric`` held ``earlier`` and holds now; None if there is no such."""
    from torchmetrics.utilities.data import dim_zero_cat, dim_zero_mean

    # What the author of the metric has declared for the states of ranks holds for those of loaders.
    reduction, states = metric._reductions[name], [earlier["states"][name], getattr(metric, name)]
    if isinstance(states[1], list):
        return states[0] + states[1]
    if reduction is None:
        return None
    if reduction is dim_zero_cat:
        return dim_zero_cat(states)
    if reduction is dim_zero_mean:
        counts = earlier["update_count"], metric._update_count
        return (states[0] * counts[0] + states[1] * counts[1]) / sum(counts)
    return reduction(torch.stack(states))


def _copied(state: Any) -> Any:
    """Return a copy that later updates of the metric do not change."""
    # update() appends to a list, and leaves the tensors in it alone, so these need no copy.
    return state.clone() if isinstance(state, Tensor) else list(state)


def _moved(state: Any, metric: Any) -> Any:
    if isinstance(state, Tensor):
        return state.to(metric.device, copy=True)
    return [_moved(item, metric) if isinstance(item, Tensor) else item for item in state]
