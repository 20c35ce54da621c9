"""One torchmetrics object that collects for several things: what it holds of each is kept apart."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any, NoReturn

from trainkit.errors import MetricError
from trainkit.metrics.torchmetrics import (
    Metric,
    check_state,
    has_data,
    is_compound,
    merge_state,
    num_updates,
    reset,
    state_of,
)

Held = dict[int, tuple[Metric, dict[str, Any]]]
"""Objects by their ``id``, and what they held when they were set aside, as `state_of` returns it."""


class SetAside:
    """What objects held before the batches of one loader: they are empty meanwhile, so that nothing is mixed.

    Attributes:
        foreign: The updates that objects had ahead of the phase, of which the phase around it has logged none so far.
        unmerged: Objects that hold less than they were given: what they held of several loaders has no sum.
    """

    def __init__(self) -> None:
        self.foreign: dict[int, int] = {}
        self.unmerged: set[int] = set()
        self._around: Held = {}  # of the phase within which this one runs
        self._before: Held = {}  # of the loaders before the running one
        self._has_begun = False

    def begin(self, around: Iterable[Metric], found: Iterable[Metric]) -> None:
        """Set aside what the phase ``around`` has logged, once in a phase; of all ``found``, note what they hold."""
        if self._has_begun:
            return
        self._has_begun = True
        self._around = _taken(around)
        self.foreign = {id(metric): num_updates(metric) for metric in found if has_data(metric)}

    def begin_loader(self, metrics: Iterable[Metric]) -> None:
        """Set aside what ``metrics`` hold of the loaders before this one."""
        self._before = _taken(metrics)

    def end_loader(self) -> None:
        """Let objects hold what they were given of all loaders so far."""
        for key, (metric, state) in self._before.items():
            if not merge_state(metric, state):
                reset(metric)
                self.unmerged.add(key)
        self._before = {}

    def end_batches(self, used: Iterable[Metric]) -> None:
        """Give back what was set aside, but for the objects that this phase has ``used``."""
        keys = {id(metric) for metric in used}
        returned = [key for key in self._around if key not in keys]
        self._give_back(returned)
        # Logged from now on, they would be reset at the end of the phase, with what the one around it has collected.
        self.foreign |= dict.fromkeys(returned, 0)

    def end(self) -> None:
        """Give back all that was set aside; what this phase has collected is gone by now."""
        self._give_back(list(self._around))

    def mixed_with(self, metric: Metric, place: int, others: set[int]) -> str | None:
        """Return what ``metric`` holds besides that for which it is logged at ``place``; None if it is nothing else.

        Args:
            metric: The object.
            place: The place of a `SlotSpec`.
            others: The places of this phase at which it was logged.
        """
        if num_updates(metric) > self.foreign.get(id(metric), math.inf):
            return "has collected values of training too"
        if place < 0:
            return (
                "was given values of several dataloaders that it cannot merge" if id(metric) in self.unmerged else None
            )
        is_mixed = is_compound(metric) and any(other >= 0 and other != place for other in others)
        return "is made of other metrics, and has collected values of another dataloader too" if is_mixed else None

    def state_dict(self, metric_paths: dict[int, str]) -> dict[str, Any]:
        """Return what is set aside, by the place of each object; one that has none is left out."""
        parts = {"around": self._around, "before": self._before}
        return {"has_begun": self._has_begun} | {
            name: {metric_paths[key]: state for key, (_, state) in held.items() if key in metric_paths}
            for name, held in parts.items()
        }

    def load_state_dict(self, state: dict[str, Any], metrics: dict[str, Metric]) -> None:
        """Restore what `state_dict` returned, given the objects by their place."""
        for name in ("around", "before"):
            for place in state[name].keys() & metrics.keys():
                check_state(metrics[place], state[name][place], f"aside.{name}.{place}")
        self._has_begun = state["has_begun"]
        self._around, self._before = (
            {id(metrics[place]): (metrics[place], held) for place, held in state[name].items() if place in metrics}
            for name in ("around", "before")
        )

    def _give_back(self, keys: Iterable[int]) -> None:
        for key in keys:
            merge_state(*self._around.pop(key))


def refuse_mixture(name: str, metric: Metric, attribute: str | None, mixed: str) -> NoReturn:
    """Raise `MetricError`: ``metric``, which is ``attribute`` of the module, is logged as ``name`` and holds more."""
    raise MetricError(
        f"self.log({name!r}) got a {type(metric).__name__} that {mixed}.\n"
        f"    the object   {f'self.{attribute}' if attribute else 'an attribute of no module'}\n"
        "    to do        make an object for each of them: for each name, for training and for validation"
    )


def _taken(metrics: Iterable[Metric]) -> Held:
    # One object may be logged under several names. One that is made of others is never set aside: what it holds besides
    # its states is known to it alone.
    held = {id(metric): metric for metric in metrics if has_data(metric) and not is_compound(metric)}
    taken = {key: (metric, state_of(metric)) for key, metric in held.items()}
    for metric in held.values():
        reset(metric)
    return taken
