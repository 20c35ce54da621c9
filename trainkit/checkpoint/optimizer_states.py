"""Whether saved states are such as torch's optimizers and schedulers save: torch itself loads next to anything.

What is wrong would otherwise be met in the first step, or by nobody. Optimizers of others are theirs to check.
"""

from __future__ import annotations

import copy
import inspect
import typing
import warnings
from collections.abc import Iterator, Mapping
from contextlib import suppress
from types import SimpleNamespace
from typing import Any, TypedDict

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim import lr_scheduler as schedulers

from trainkit.checkpoint.arguments import CYCLE_OPTIONS, flattened
from trainkit.errors import StateError
from trainkit.storage.schema import Count, Scalar, mismatch
from trainkit.storage.walk import place_of_entry

_RATES = ("initial_lr", *CYCLE_OPTIONS)
_PLAIN_PATHS = {"foreach": False, "fused": None, "capturable": False, "differentiable": False}
"""The options by which an optimizer computes the same in the plainest way, which works without data."""

_NEEDED = ("base_lrs", "best", "last_epoch", "num_bad_epochs", "_schedulers")
"""What a scheduler that has it cannot go on without. For all else the code's value will do."""

_OF_ONE_LENGTH = ("base_lrs", "max_lrs", "min_lrs", "base_momentums", "max_momentums", "lr_lambdas", "_schedulers")
"""Lists with an entry for each parameter group, or each scheduler within."""

_CLOSED = (
    schedulers.StepLR,
    schedulers.MultiStepLR,
    schedulers.ConstantLR,
    schedulers.LinearLR,
    schedulers.ExponentialLR,
    schedulers.PolynomialLR,
    schedulers.CosineAnnealingLR,
    schedulers.CosineAnnealingWarmRestarts,
    schedulers.OneCycleLR,
    schedulers.CyclicLR,
)
"""Schedulers that compute rates from their state alone, and call nothing of the user's."""


class _State(TypedDict):
    """What an optimizer saves."""

    state: dict[Count, dict[str, Any]]
    param_groups: list[dict[str, Any]]


def is_of_torch(owner: object) -> bool:
    """Whether torch knows what an optimizer or scheduler saves, and nobody else adds to it."""
    return type(owner).__module__.startswith("torch.optim")


def is_in_torchs_form(state: Any) -> bool:
    """Whether the state of an optimizer, which may be one of others, is built as those of torch are."""
    return not mismatch(state, _State) and all(isinstance(each.get("params"), list) for each in state["param_groups"])


def check_state(owner: Any, state: Any) -> None:
    """Raise `StateError` if ``state`` is not such as ``owner``, an optimizer or scheduler of torch, saves."""
    if not is_of_torch(owner):
        return
    if isinstance(owner, Optimizer):
        wrong = mismatch(state, _State) or next(_wrong_in_optimizer(owner, state), "")
    else:
        wrong = _unlike(state, owner.state_dict(), "") or next(_wrong_in_options(owner, state, vars(owner), ""), "")
    if wrong:
        raise StateError(wrong)


def check_loaded(owner: Any) -> None:
    """Raise an error, of whatever kind, if a scheduler of torch cannot compute rates from the state that it has."""
    for _, scheduler in flattened("", owner):
        has_own_scale = (
            type(scheduler) is schedulers.CyclicLR and scheduler.state_dict()["_scale_fn_custom"] is not None
        )
        if type(scheduler) in _CLOSED and not has_own_scale:
            _compute_rates(scheduler)


# Optimizers


def _wrong_in_optimizer(optimizer: Optimizer, state: Mapping[str, Any]) -> Iterator[str]:
    groups, own_groups = state["param_groups"], optimizer.param_groups
    if len(groups) != len(own_groups):
        return  # torch itself says that
    expected, numbers = [], []
    for index, (group, own) in enumerate(zip(groups, own_groups, strict=True)):
        place = f"param_groups[{index}]"
        yield from filter(None, [mismatch(group.get("params"), list[Count], f"{place}.params")])
        numbers += group["params"]
        yield from _wrong_in_options(optimizer, group, own, place)
        expected += _states_or_nothing(optimizer, group, own, place)
    if len(numbers) != len(expected):
        return  # as above
    if len(set(numbers)) < len(numbers):
        yield "a parameter is in param_groups twice"
    if alien := sorted(state["state"].keys() - set(numbers)):
        yield f"state has a parameter {alien[0]}, which is in none of the param_groups"
    for number, names in zip(numbers, expected, strict=True):
        saved = state["state"].get(number)
        # Without any it was never stepped, or was frozen.
        for name, value in names.items() if saved else ():
            place = f"state[{number}].{name}"
            if name not in saved:
                yield f"there is no {place}"
            elif wrong := _wrong_in_value(saved[name], value, place):
                yield wrong


def _wrong_in_options(owner: Any, options: Mapping[str, Any], own: Mapping[str, Any], place: str) -> Iterator[str]:
    """Compare arguments with what torch has annotated, as far as the code's own ones are of that."""
    kinds = dict.fromkeys(_RATES, Scalar) | _annotations(owner)
    for name in kinds.keys() & options.keys():
        value, below = _as_tuple(options[name]), place_of_entry(name, place)
        if not mismatch(_as_tuple(own.get(name, value)), kinds[name]):
            if wrong := mismatch(value, kinds[name], below):
                yield wrong
            if isinstance(value, Tensor) and value.numel() != 1:
                yield f"{below} has {value.numel()} numbers in place of one"


def _states_or_nothing(
    optimizer: Optimizer, group: Mapping[str, Any], own: Mapping[str, Any], place: str
) -> list[dict[str, Any]]:
    # Some read a value, and so cannot step without data: there it is one number in as many dimensions.
    for device in ("meta", "cpu"):
        try:
            return _states_after_a_step(optimizer, group, own, place, device)
        except StateError:
            raise
        except Exception:
            continue
    return [{} for _ in own["params"]]


def _states_after_a_step(
    optimizer: Optimizer, group: Mapping[str, Any], own: Mapping[str, Any], place: str, device: str
) -> list[dict[str, Any]]:
    """Return what the state of each parameter of a group has after a step.

    It is found by a step of another optimizer of that class, with the options of the file.

    Raises:
        StateError: If the optimizer refuses the options.
        Exception: Of any kind, if such a step cannot be made.
    """
    # Parameters of one form have states of one form, and there are few forms.
    stand_ins: dict[Any, nn.Parameter] = {}
    forms = [(each.shape, each.dtype) for each in own["params"]]
    for form in forms:
        if form not in stand_ins:
            shape = form[0] if device == "meta" else [1] * len(form[0])
            stand_ins[form] = nn.Parameter(torch.zeros(shape, dtype=form[1], device=device))
            stand_ins[form].grad = torch.ones_like(stand_ins[form])
    _make(optimizer, stand_ins, own)  # those of the code, which may be of a subclass that takes others
    try:
        trial = _make(optimizer, stand_ins, {**group, "lr": own["lr"]})
    except Exception as error:
        raise StateError(f"{place} has options that {type(optimizer).__name__} does not take: {error}") from error
    with torch.no_grad():
        # Without the hooks around it, which may be the user's.
        inspect.unwrap(type(trial).step)(trial, lambda: torch.zeros(()))
    return [dict(trial.state[stand_ins[form]]) for form in forms]


def _make(optimizer: Optimizer, parameters: Mapping[Any, nn.Parameter], options: Mapping[str, Any]) -> Any:
    chosen = {name: options[name] for name in _annotations(optimizer) if name in options}
    plainest = {name: value for name, value in _PLAIN_PATHS.items() if name in chosen}
    return type(optimizer)([*parameters.values()], **chosen | plainest)


def _wrong_in_value(saved: Any, expected: Any, place: str) -> str:
    if not isinstance(expected, Tensor):
        return _unlike(saved, expected, place)
    if expected.ndim == 0:
        # Earlier versions of torch counted steps in numbers.
        wrong = mismatch(saved, Scalar, place)
        return wrong or ("" if not place.endswith(".step") or saved >= 0 else f"{place} is below 0")
    wrong = mismatch(saved, Tensor, place)
    differs = not wrong and (saved.shape != expected.shape if expected.is_meta else saved.ndim != expected.ndim)
    if differs:
        wrong = f"{place} has the shape {tuple(saved.shape)}, and that of its parameter is {tuple(expected.shape)}"
    return wrong


def _annotations(owner: Any) -> dict[str, Any]:
    """Return the arguments with which an optimizer or scheduler is made, and of which types they are."""
    make = owner.__init__
    hints: dict[str, Any] = {}
    for name, hint in inspect.get_annotations(make).items():
        with suppress(NameError):  # torch imports some types for type checkers only
            hints |= typing.get_type_hints(SimpleNamespace(__annotations__={name: hint}), make.__globals__)
    return {name: hint for name, hint in hints.items() if name not in ("params", "return")}


def _as_tuple(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value  # a configuration knows no tuples


# Schedulers


def _unlike(saved: Any, own: Any, place: str) -> str:
    """Return in what a state is not of the kinds of which the state of the code's scheduler is."""
    if isinstance(own, bool | str):
        return mismatch(saved, type(own), place)
    if isinstance(own, int | float | Tensor):
        return mismatch(saved, Scalar, place)
    if isinstance(own, Mapping):
        return _unlike_mapping(saved, own, place)
    if isinstance(own, list | tuple):
        return _unlike_sequence(saved, own, place)
    return ""


def _unlike_mapping(saved: Any, own: Mapping[Any, Any], place: str) -> str:
    if wrong := mismatch(saved, dict[Any, Any], place):
        return wrong
    if lacking := [name for name in _NEEDED if name in own and name not in saved]:
        return f"there is no {place_of_entry(lacking[0], place)}"
    # Milestones are keys themselves: each is like any other.
    any_key, any_value = next(iter(own.items()), (None, None))
    for key, value in saved.items():
        below = place_of_entry(key, place)
        alike = own[key] if key in own else any_value if isinstance(any_key, int) else None
        wrong = _unlike(value, alike, below) or ("" if isinstance(any_key, str) else _unlike(key, any_key, below))
        if wrong:
            return wrong
        if key in _OF_ONE_LENGTH and key in own and len(value) != len(own[key]):
            return f"{below} has {len(value)} entries, and that of the code {len(own[key])}"
    return ""


def _unlike_sequence(saved: Any, own: Any, place: str) -> str:
    if wrong := mismatch(saved, list[Any] if isinstance(own, list) else tuple[Any, ...], place):
        return wrong
    # One that is longer goes on like its last entry.
    pairs = zip(saved, [*own, *own[-1:] * len(saved)], strict=False)
    found = (_unlike(one, other, f"{place}[{index}]") for index, (one, other) in enumerate(pairs))
    return next(filter(None, found), "")


def _compute_rates(scheduler: Any) -> None:
    """Compute the rates where a schedule stands, and change nothing."""
    before = [dict(group) for group in scheduler.optimizer.param_groups]
    trial = copy.copy(scheduler)
    trial.last_epoch = max(scheduler.last_epoch, 1)  # before the first step there is nothing to compute
    try:
        with warnings.catch_warnings(action="ignore"):  # which say to call something else
            trial.get_lr()
    finally:
        # Some set the momentum meanwhile.
        for group, values in zip(scheduler.optimizer.param_groups, before, strict=True):
            group.update(values)
