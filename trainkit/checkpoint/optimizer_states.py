"""Whether saved states are such as torch's optimizers save: torch itself loads next to anything.

What is wrong would otherwise be met in the first step, or by nobody. Optimizers of others are theirs to check.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated, Any, TypedDict

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from trainkit.checkpoint.options import wrong_in_options
from trainkit.checkpoint.scheduler_states import MOST_STEPS, is_of_torch
from trainkit.checkpoint.trial_steps import Expected, expected_states
from trainkit.errors import StateError
from trainkit.output import warn
from trainkit.storage.schema import AtLeast, Count, mismatch
from trainkit.storage.tensors import bounds, kind_of, misformed, wrong_number
from trainkit.storage.walk import place_of_entry

HOW_TO_COMPUTE = frozenset({"foreach", "fused", "capturable", "differentiable"})
"""Options by which an optimizer computes the same in another way."""

_Steps = Annotated[int, AtLeast(0, most=MOST_STEPS)]


class _State(TypedDict):
    """What an optimizer saves."""

    state: dict[Count, dict[str, Any]]
    param_groups: list[dict[str, Any]]


def is_in_torchs_form(state: Any) -> bool:
    """Whether the state of an optimizer, which may be one of others, is built as those of torch are."""
    return not mismatch(state, _State) and all(isinstance(each.get("params"), list) for each in state["param_groups"])


def check_optimizer_state(optimizer: Any, state: Any) -> None:
    """Raise `StateError` if ``optimizer`` is one of torch, and ``state`` not such as it saves."""
    # Hooks make of a state what the optimizer takes.
    if not is_of_torch(optimizer) or optimizer._optimizer_load_state_dict_pre_hooks:
        return
    if wrong := mismatch(state, _State) or next(filter(None, _wrong_in_optimizer(optimizer, state)), ""):
        raise StateError(wrong)


def _wrong_in_optimizer(optimizer: Optimizer, state: Mapping[str, Any]) -> Iterator[str]:
    groups, own_groups = state["param_groups"], optimizer.param_groups
    if len(groups) != len(own_groups):
        return  # torch itself says that
    expected: list[Expected] = []
    numbers: list[int] = []
    for index, (group, own) in enumerate(zip(groups, own_groups, strict=True)):
        place = f"param_groups[{index}]"
        yield mismatch(group.get("params"), list[Count], f"{place}.params")
        yield from wrong_in_options(optimizer, group, own, place)
        numbers += group["params"]
        expected += expected_states(optimizer, group, own, place)
    if len(numbers) != len(expected):
        return  # as above
    yield from _wrong_in_numbering(numbers, state["state"])
    parameters = [parameter for own in own_groups for parameter in own["params"]]
    for number, each, parameter in zip(numbers, expected, parameters, strict=True):
        # Without any it was never stepped, or was frozen.
        if saved := state["state"].get(number):
            yield from _wrong_in_state(saved, each, parameter, f"state[{number}]")
    yield from _mixed(state["state"], numbers, parameters, expected)


def _wrong_in_numbering(numbers: Sequence[int], states: Mapping[int, Any]) -> Iterator[str]:
    if len(set(numbers)) < len(numbers):
        yield "a parameter is in param_groups twice"
    if alien := sorted(states.keys() - set(numbers)):
        yield f"state has a parameter {alien[0]}, which is in none of the param_groups"
    in_order = [*range(len(numbers))]
    if numbers != in_order and sorted(numbers) == in_order:
        yield f"param_groups has the parameters in another order than the code: {numbers}"


def _wrong_in_state(saved: Mapping[str, Any], expected: Expected, parameter: nn.Parameter, place: str) -> Iterator[str]:
    for name in expected.lacking(saved.keys()):
        yield f"there is no {place}.{name}"
    kept = {name: each for name, each in expected.kept.items() if name in saved}
    for name, each in kept.items():
        below = place_of_entry(name, place)
        compare = _wrong_in_list if isinstance(each.value, list) else _wrong_in_value
        yield compare(saved[name], each.value, expected, below)
        yield _wrong_in_numbers(saved[name], parameter, below, may_be_negative=not each.is_never_negative)
    lists = {name: each.length for name, each in kept.items() if isinstance(each.value, list)}
    growing = {name: len(saved[name]) for name, length in lists.items() if length is None}
    room = min((each.length for each in expected.kept.values() if each.length is not None), default=math.inf)
    if len(set(growing.values())) > 1 or max(growing.values(), default=0) > room:
        yield f"{' and '.join(growing)} in {place} have {', '.join(map(str, growing.values()))} entries"
    for name, length in lists.items():
        if length not in (None, len(saved[name])):
            yield f"{place}.{name} has {len(saved[name])} entries, and {length} were expected"


def _wrong_in_value(saved: Any, own: Any, expected: Expected, place: str) -> str:
    """Compare one entry with that of a stand-in."""
    if isinstance(own, Tensor) and own.ndim:
        return misformed(saved, expected.shape_of(own), own.dtype, place)
    if place.endswith(".step"):
        return _wrong_in_steps(saved, own, place)
    if isinstance(own, Tensor) and isinstance(saved, Tensor):
        return misformed(saved, (), own.dtype, place)
    return "" if own is None else wrong_number(saved, place)


def _wrong_in_steps(saved: Any, own: Any, place: str) -> str:
    if isinstance(saved, Tensor) and isinstance(own, Tensor):
        if wrong := wrong_number(saved, place):
            return wrong
        if saved.dtype.itemsize < torch.float32.itemsize:
            return f"{place} has the dtype {saved.dtype}, which does not count far"
        saved = saved.item()
    # Earlier versions of torch counted steps in numbers.
    return mismatch(int(saved) if isinstance(saved, float) and saved.is_integer() else saved, _Steps, place)


def _wrong_in_list(saved: Any, own: Sequence[Any], expected: Expected, place: str) -> str:
    if wrong := mismatch(saved, list[Any], place):
        return wrong
    like = next((each for each in own if each is not None), None)
    entries = ((each, f"{place}[{index}]") for index, each in enumerate(saved) if each is not None or None not in own)
    return next(filter(None, (_wrong_in_value(each, like, expected, below) for each, below in entries)), "")


def _wrong_in_numbers(saved: Any, parameter: nn.Parameter, place: str, *, may_be_negative: bool) -> str:
    for value in saved if isinstance(saved, list) else [saved]:
        least, largest = bounds(value) if isinstance(value, Tensor | int | float) else (0.0, 0.0)
        # Where the parameter is lost too, the run was so when it was saved.
        if math.isnan(least) and not any(map(math.isnan, bounds(parameter))):
            return f"{place} is NaN in parts, and the parameter is not"
        if least < 0 and not may_be_negative:
            return f"{place} has numbers below 0"
        if math.inf in (largest, -least):
            warn(
                f"{place} of an optimizer in the checkpoint is infinite in parts, which ends the training of those "
                "weights. To begin without what the optimizer has kept: fit(..., take=['optimizer'])."
            )
    return ""


def _mixed(
    states: Mapping[int, Any], numbers: Sequence[int], parameters: Sequence[nn.Parameter], expected: Sequence[Expected]
) -> Iterator[str]:
    """Yield of which name some parameters have a number and others a tensor: torch looks at the first one alone."""
    first: dict[Any, Any] = {}
    for number, parameter, each in zip(numbers, parameters, expected, strict=True):
        saved = states.get(number, {})
        for name, kept in each.kept.items():
            if name in saved and isinstance(kept.value, Tensor) and not kept.value.ndim:
                # Of whatever width: a parameter that was added later may count in another one.
                is_tensor = isinstance(saved[name], Tensor)
                kind = f"tensor of {kind_of(saved[name].dtype)} numbers" if is_tensor else "number"
                if first.setdefault((name, parameter.dtype), kind) != kind:
                    yield f"state[{number}].{name} is a {kind}, and that of another parameter is none"
