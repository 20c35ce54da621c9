"""One torchmetrics object that collects for several things: the states of each are kept apart.

A module may log one object in training and in validation, or for several dataloaders. While it collects for one of
these, what it holds of the others is stashed::

    training, 3 batches           self.acc holds 3 updates
      validation                  stashed; self.acc holds those of the first loader
        second dataloader         stashed too; self.acc holds those of the second loader
        end of the loaders        merged: self.acc holds those of both
      end of validation           reset
    training goes on              merged back: self.acc holds 3 updates again
"""

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

Stash = dict[int, tuple[Metric, dict[str, Any]]]
"""Objects by their ``id``, and what they held when they were stashed, as `state_of` returns it."""


class StashedStates:
    """What the torchmetrics objects of a phase hold for the phase around it, and for earlier dataloaders.

    Attributes:
        outer_updates: Of objects that hold what the phase around has not logged, and so is not stashed: their number
            of updates when this phase began.
        unmergeable: Objects whose states of several loaders cannot be merged, and which hold those of the last one.
    """

    def __init__(self) -> None:
        self.outer_updates: dict[int, int] = {}
        self.unmergeable: set[int] = set()
        self._outer: Stash = {}
        self._earlier_loaders: Stash = {}
        self._has_begun = False

    def stash_outer(self, logged: Iterable[Metric], found: Iterable[Metric]) -> None:
        """Stash what objects hold of the phase around this one, once in a phase.

        >>> from torchmetrics import SumMetric
        >>> total, stash = SumMetric(), StashedStates()
        >>> total.update(3.0)
        >>> stash.stash_outer([total], [total])
        >>> total.update_count
        0

        Args:
            logged: What the phase around has logged.
            found: All objects there are. One that it has updated, and not logged yet, keeps what it holds.
        """
        if self._has_begun:
            return
        self._has_begun = True
        self._outer = _stashed(logged)
        self.outer_updates = {id(metric): num_updates(metric) for metric in found if has_data(metric)}

    def stash_earlier_loaders(self, metrics: Iterable[Metric]) -> None:
        """Stash what ``metrics`` hold of the dataloaders before the one that begins.

        >>> from torchmetrics import SumMetric
        >>> total, stash = SumMetric(), StashedStates()
        >>> total.update(1.0)
        >>> stash.stash_earlier_loaders([total])
        >>> total.update(20.0)
        >>> total.compute().item()
        20.0
        """
        self._earlier_loaders = _stashed(metrics)

    def merge_loaders(self) -> None:
        """Let objects hold what they were given of all loaders so far, now that one has ended.

        >>> from torchmetrics import SumMetric
        >>> total, stash = SumMetric(), StashedStates()
        >>> total.update(1.0)
        >>> stash.stash_earlier_loaders([total])
        >>> total.update(20.0)
        >>> stash.merge_loaders()
        >>> total.compute().item()
        21.0
        """
        for key, (metric, state) in self._earlier_loaders.items():
            if not merge_state(metric, state):
                reset(metric)
                self.unmergeable.add(key)
        self._earlier_loaders = {}

    def restore_unused(self, used: Iterable[Metric]) -> None:
        """Give objects back what they held of the phase around, but for those that this phase has ``used``.

        >>> from torchmetrics import SumMetric
        >>> of_training, of_both, stash = SumMetric(), SumMetric(), StashedStates()
        >>> of_training.update(3.0); of_both.update(4.0)
        >>> stash.stash_outer([of_training, of_both], [])
        >>> stash.restore_unused([of_both])
        >>> of_training.update_count, of_both.update_count
        (1, 0)
        """
        keys = {id(metric) for metric in used}
        unused = [key for key in self._outer if key not in keys]
        self._merge_back(unused)
        # Logged from now on, they would be reset at the end of the phase, with what the one around it has collected.
        self.outer_updates |= dict.fromkeys(unused, 0)

    def restore(self) -> None:
        """Give objects back all that they held of the phase around; what this phase has collected is gone by now.

        >>> from torchmetrics import SumMetric
        >>> total, stash = SumMetric(), StashedStates()
        >>> total.update(3.0)
        >>> stash.stash_outer([total], [])
        >>> stash.restore()
        >>> total.compute().item()
        3.0
        """
        self._merge_back(list(self._outer))

    def mixture(self, metric: Metric, place: int, other_places: set[int]) -> str | None:
        """Return what ``metric`` holds besides that for which it is logged at ``place``; None if it is nothing else.

        >>> from torchmetrics import SumMetric
        >>> total, stash = SumMetric(), StashedStates()
        >>> total.update(3.0)  # in training, which has not logged it
        >>> stash.stash_outer([], [total])
        >>> total.update(4.0)  # in a validation
        >>> stash.mixture(total, 0, set())
        'has collected values of training too'

        Args:
            metric: The object.
            place: The place of a `SlotSpec`.
            other_places: The places of this phase at which it was logged.
        """
        if num_updates(metric) > self.outer_updates.get(id(metric), math.inf):
            return "has collected values of training too"
        if place < 0:
            is_lost = id(metric) in self.unmergeable
            return "was given values of several dataloaders that it cannot merge" if is_lost else None
        is_mixed = is_compound(metric) and any(other >= 0 and other != place for other in other_places)
        return "is made of other metrics, and has collected values of another dataloader too" if is_mixed else None

    def state_dict(self, metric_paths: dict[int, str]) -> dict[str, Any]:
        """Return what is stashed, by the place of each object; one that has none is left out."""
        # The keys are those of the first files.
        stashes = {"around": self._outer, "before": self._earlier_loaders}
        return {"has_begun": self._has_begun} | {
            name: {metric_paths[key]: state for key, (_, state) in stash.items() if key in metric_paths}
            for name, stash in stashes.items()
        }

    def load_state_dict(self, state: dict[str, Any], metrics: dict[str, Metric]) -> None:
        """Restore what `state_dict` returned, given the objects by their place."""
        for name in ("around", "before"):
            for place in state[name].keys() & metrics.keys():
                check_state(metrics[place], state[name][place], f"aside.{name}.{place}")
        self._has_begun = state["has_begun"]
        self._outer, self._earlier_loaders = (
            {id(metrics[place]): (metrics[place], held) for place, held in state[name].items() if place in metrics}
            for name in ("around", "before")
        )

    def _merge_back(self, keys: Iterable[int]) -> None:
        for key in keys:
            merge_state(*self._outer.pop(key))


def refuse_mixture(name: str, metric: Metric, attribute: str | None, mixture: str) -> NoReturn:
    """Raise `MetricError`: ``metric``, which is ``attribute`` of the module, is logged as ``name`` and holds more."""
    raise MetricError(
        f"self.log({name!r}) got a {type(metric).__name__} that {mixture}.\n"
        f"    the object   {f'self.{attribute}' if attribute else 'an attribute of no module'}\n"
        "    to do        make an object for each of them: for each name, for training and for validation"
    )


def _stashed(metrics: Iterable[Metric]) -> Stash:
    """Return what ``metrics`` hold, and reset them."""
    # One object may be logged under several names. One that is made of others is never stashed: what it holds besides
    # its states is known to it alone.
    held = {id(metric): metric for metric in metrics if has_data(metric) and not is_compound(metric)}
    stash = {key: (metric, state_of(metric)) for key, metric in held.items()}
    for metric in held.values():
        reset(metric)
    return stash
