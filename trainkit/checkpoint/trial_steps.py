"""What an optimizer keeps for its parameters: found by steps of another one of its class, on small stand-ins."""

from __future__ import annotations

import copy
import inspect
import math
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import suppress
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from trainkit.checkpoint.options import argument_types
from trainkit.errors import StateError
from trainkit.storage.tensors import bounds

_SIZES = (2, 3, 5, 7, 11, 13)
"""Sizes of the stand-ins. All differ, so that the sizes of what is kept tell from which dimensions they come."""

_NUM_STEPS = 2
"""Some keep more after the second step than after the first."""

_DOWNWARDS = [2.0**-number for number in range(60)]
_SLOPES: tuple[list[float], ...] = (_DOWNWARDS, [-slope for slope in _DOWNWARDS], [0.5, 0.25], [])
"""The gradients that are met one after the other, with zeros behind. They fall as they do towards a minimum: some
optimizers keep only what comes of that, and others have more to keep where it is not reached at once."""


class Kept(NamedTuple):
    """What is kept under one name for a parameter.

    Attributes:
        value: As it is for the stand-in.
        is_never_negative: Whether no number in it is below 0, whatever the gradient.
        length: How long it is, if it is a list that never grows.
    """

    value: Any
    is_never_negative: bool
    length: int | None


class Expected(NamedTuple):
    """What is kept for a parameter.

    Attributes:
        kept: By name.
        together: Which names there are at one time: more may come with a later step.
        sizes: How sizes of a stand-in become those of the parameter.
    """

    kept: Mapping[str, Kept]
    together: Collection[frozenset[str]]
    sizes: Mapping[int, int]

    def shape_of(self, value: Tensor) -> tuple[int, ...]:
        """Return the shape that ``value`` has for the parameter itself."""
        return tuple(self.sizes.get(size, size) for size in value.shape)

    def lacking(self, names: Collection[str]) -> list[str]:
        """Return what is always kept together with some of ``names``, and is not among them."""
        known = self.kept.keys() & names
        if known in self.together:
            return []
        return sorted(min((each for each in self.together if each > known), key=len, default=known) - known)


NOTHING_KNOWN = Expected({}, (), {})


def expected_states(
    optimizer: Optimizer, group: Mapping[str, Any], own: Mapping[str, Any], place: str
) -> list[Expected]:
    """Return what ``optimizer`` would keep for each parameter of a group with the options of a file.

    Args:
        optimizer: Of which class.
        group: The saved group.
        own: That of ``optimizer`` itself.
        place: Where ``group`` is in the file.

    Raises:
        StateError: If the optimizer does not take the options, or cannot step with them.
    """
    forms = [(each.shape, each.dtype, each.device) for each in own["params"]]
    # In which place of a schedule it was saved says nothing, and some lead below 0.
    options = {**group, "lr": abs(group["lr"]) if "lr" in group else own["lr"]}
    for way in (torch.strided, torch.sparse_coo):  # one optimizer takes only sparse gradients
        try:
            found = _snapshots(optimizer, options, forms, way)
        except Exception as error:
            if not _can_step(optimizer, own, forms, way):
                continue
            raise StateError(f"{place} has options that {type(optimizer).__name__} does not take: {error}") from error
        whole = {sum(math.prod(_small(form[0])) for form in found): sum(math.prod(form[0]) for form in forms)}
        expected = {
            form: _expected(states, whole | dict(zip(_small(form[0]), form[0], strict=True)))
            for form, states in found.items()
        }
        return [expected[form] for form in forms]
    return [NOTHING_KNOWN for _ in forms]


def made_alike(optimizer: Optimizer, options: Mapping[str, Any], parameters: Sequence[nn.Parameter]) -> Any:
    """Return another optimizer of the class of ``optimizer``, with those ``options`` that its constructor knows."""
    return type(optimizer)(
        [*parameters], **{name: options[name] for name in argument_types(optimizer) if name in options}
    )


def _snapshots(
    optimizer: Optimizer, options: Mapping[str, Any], forms: Sequence[Any], way: torch.layout
) -> dict[Any, list[Mapping[str, Any]]]:
    """Return by the forms of parameters what is kept for them after each of some steps."""
    states: dict[Any, list[Mapping[str, Any]]] = {form: [] for form in forms}
    for slopes in _SLOPES:
        for form, state in _steps(optimizer, options, forms, way, slopes):
            states[form].append(state)
    return states


def _can_step(optimizer: Optimizer, options: Mapping[str, Any], forms: Sequence[Any], way: torch.layout) -> bool:
    with suppress(Exception):
        _snapshots(optimizer, options, forms, way)
        return True
    return False


def _expected(states: Sequence[Mapping[str, Any]], sizes: Mapping[int, int]) -> Expected:
    names = dict.fromkeys(name for state in states for name in state)
    kept = {name: _kept([state[name] for state in states if name in state]) for name in names}
    return Expected(kept, {frozenset(state) for state in states}, sizes)


def _kept(values: Sequence[Any]) -> Kept:
    lengths = {len(value) for value in values if isinstance(value, list)}
    fullest = max(values, key=lambda value: len(value) if isinstance(value, list) else 0)
    return Kept(fullest, all(map(_is_never_negative, values)), lengths.pop() if len(lengths) == 1 else None)


def _is_never_negative(value: Any) -> bool:
    return isinstance(value, Tensor | int | float) and bounds(value)[0] >= 0


def _steps(
    optimizer: Optimizer, options: Mapping[str, Any], forms: Sequence[Any], way: torch.layout, slopes: Sequence[float]
) -> Iterator[tuple[Any, Mapping[str, Any]]]:
    """Make steps, and yield what is kept for each form after each."""
    # Parameters of one form have states of one form, and there are few forms.
    stand_ins = {
        form: nn.Parameter(torch.zeros(_small(form[0]), dtype=form[1], device=form[2])) for form in dict.fromkeys(forms)
    }
    trial = made_alike(optimizer, options, [*stand_ins.values()])
    unchosen = trial.param_groups[0].keys() - argument_types(optimizer).keys() - {"params", "param_names"}
    for name in unchosen & options.keys():
        if options[name] != trial.param_groups[0][name]:
            raise ValueError(f"{name} is {options[name]!r}")
    later = iter(slopes)

    def evaluate() -> Tensor:
        slope = next(later, 0.0)
        for each in stand_ins.values():
            full = torch.full_like(each, complex(slope, slope) if each.is_complex() else slope)
            each.grad = full.to_sparse() if way is torch.sparse_coo else full
        return torch.tensor(slope)

    step: Callable[..., Any] = inspect.unwrap(type(trial).step)  # without the hooks around it, which may be the user's
    with torch.no_grad():
        for _ in range(_NUM_STEPS):
            evaluate()
            step(trial, evaluate)
            for form, parameter in stand_ins.items():
                yield form, {name: _copy(value) for name, value in trial.state[parameter].items()}


def _copy(value: Any) -> Any:
    return value.clone() if isinstance(value, Tensor) else copy.copy(value)


def _small(shape: Sequence[int]) -> tuple[int, ...]:
    return _SIZES[: len(shape)] if len(shape) <= len(_SIZES) else tuple(shape)
