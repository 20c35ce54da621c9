"""Optimizers and schedulers as they were: states are looked at, loaded, and fitted to the parameters of now."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from trainkit.checkpoint.optimizer_states import HOW_TO_COMPUTE, check_optimizer_state, is_in_torchs_form
from trainkit.checkpoint.scheduler_states import MOST_STEPS, check_scheduler_state, is_of_torch
from trainkit.errors import CheckpointError, StateError
from trainkit.module.saved_parts import dealt_as_saved
from trainkit.module.shards import dealt_like, is_sharded
from trainkit.storage.owners import given_to, restoring
from trainkit.storage.sharded.place_holder import SavedTensor
from trainkit.storage.sharded.reader import saved_in
from trainkit.storage.walk import replaced


def restore_optimizers(optimizers: list[Any], states: list[Any], path: str, *, keep_dtypes: bool = False) -> None:
    """Load the state of each optimizer.

    Args:
        optimizers: The optimizers of this run.
        states: Their states in the checkpoint, in the same order.
        path: The file, for the error.
        keep_dtypes: Whether states have the dtypes that they were saved with; otherwise those of the parameters now.

    Raises:
        CheckpointError: If the numbers, the parameter groups or the classes differ.
    """
    _check_number(optimizers, states, path, "optimizer")
    for index, (optimizer, state) in enumerate(zip(optimizers, states, strict=True)):
        place = f"optimizer_states[{index}]"
        needed, before = _options(optimizer), [{**group} for group in getattr(optimizer, "param_groups", ())]
        defaults = dict(getattr(optimizer, "defaults", {}))
        with _owned(optimizer, place, path):
            state = _read(optimizer, state)
            check_optimizer_state(optimizer, state)
            state = _dealt(optimizer, state)
            _load(optimizer, state, place, path, "optimizer")
        if isinstance(optimizer, Optimizer):
            # torch adds to them, and groups that are added later would have what the code has not given.
            optimizer.defaults = defaults
        if lacking := needed - _options(optimizer):
            raise CheckpointError(
                f"{path} holds the state of another optimizer than {type(optimizer).__name__}: there is no "
                f"{', '.join(sorted(lacking))}.\n{_to_do('optimizer')}"
            )
        if isinstance(optimizer, Optimizer) and is_of_torch(optimizer):
            if name := _filled_in(optimizer, state, before):
                raise CheckpointError(f"{path}: there is no {name} in {place}.\n{_to_do('optimizer')}")
            _fit_to_parameters(optimizer)
        # Optimizers of others may save in a form of their own, which they have read themselves.
        if keep_dtypes and is_in_torchs_form(state):
            _put_back_dtypes(optimizer, state)


def restore_schedulers(schedulers: list[Any], states: list[Any], path: str) -> None:
    """Load the state of each scheduler.

    Args:
        schedulers: The schedulers of this run.
        states: Their states in the checkpoint, in the same order.
        path: The file, for the error.

    Raises:
        CheckpointError: If the numbers or the classes differ.
    """
    _check_number(schedulers, states, path, "scheduler")
    for index, (scheduler, state) in enumerate(zip(schedulers, states, strict=True)):
        place = f"lr_schedulers[{index}]"
        with _owned(scheduler, place, path):
            check_scheduler_state(scheduler, state)
            if (most := max(_counts(state), default=0)) > MOST_STEPS:
                raise StateError(f"it says that it was stepped {most} times, which none was")
            _load(scheduler, state, place, path, "scheduler")


def _check_number(owners: list[Any], states: list[Any], path: str, kind: str) -> None:
    if len(owners) != len(states):
        raise CheckpointError(
            f"{path} holds {len(states)} states of {kind}s, and configure_optimizers gave {len(owners)}.\n"
            f"{_to_do(kind)}"
        )


def _owned(owner: Any, place: str, path: str) -> AbstractContextManager[None]:
    return restoring(place, path) if is_of_torch(owner) else given_to(owner, place, path)


def _load(owner: Any, state: Any, place: str, path: str, kind: str) -> None:
    try:
        owner.load_state_dict(state)
    except (ValueError, KeyError) as error:
        raise CheckpointError(
            f"{path}: the state of {type(owner).__name__} does not fit: {error} ({place})\n{_to_do(kind)}"
        ) from error


def _to_do(kind: str) -> str:
    return (
        f"    to do        resume with the module it was trained with; or fit(..., take=['{kind}']) starts anew what "
        "does not fit; or load only the weights (module.load_from_checkpoint)"
    )


def _counts(state: Any) -> Iterator[int]:
    """Yield how often the schedulers in a state were stepped, and how often each milestone counts."""
    if isinstance(state, list | tuple):
        for item in state:
            yield from _counts(item)
    for key, value in state.items() if isinstance(state, dict) else ():
        is_count = key in ("last_epoch", "_step_count") or isinstance(state, Counter)
        if is_count and isinstance(value, int):
            yield value
        yield from _counts(value)


def _options(optimizer: Any) -> set[str]:
    """Return the arguments of an optimizer that all of its groups have; none of what is no `Optimizer`."""
    if not isinstance(optimizer, Optimizer):
        return set()
    return set(optimizer.defaults).intersection(*optimizer.param_groups)


def _filled_in(optimizer: Optimizer, state: Mapping[str, Any], before: list[dict[str, Any]]) -> str:
    """Return an option that the state lacks, and for which torch has put in another value than the code's."""
    for saved, own, now in zip(state["param_groups"], before, optimizer.param_groups, strict=True):
        for name in optimizer.defaults.keys() - saved.keys() - HOW_TO_COMPUTE:
            if now[name] is not own[name] and now[name] != own[name]:
                return str(name)
    return ""


def _put_back_dtypes(optimizer: Optimizer, state: dict[str, Any]) -> None:
    """Undo that torch casts all that it loads, but counters of steps, to the dtype of the parameter."""
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    numbers = [number for group in state["param_groups"] for number in group["params"]]
    for parameter, number in zip(parameters, numbers, strict=True):
        loaded = optimizer.state.get(parameter, {})
        for name, saved in state["state"].get(number, {}).items():
            # Such as the float32 scalars of ASGD and NAdam, beside parameters in bfloat16. All else that torch's own
            # optimizers keep is of the parameter's dtype.
            is_own = isinstance(saved, Tensor) and (not saved.ndim or not is_of_torch(optimizer))
            if is_own and name in loaded and saved.dtype != loaded[name].dtype:
                loaded[name] = saved.to(loaded[name].device, copy=True)


def _read(optimizer: Any, state: Any) -> Any:
    """Return ``state`` with all read that is in a sharded checkpoint: of sharded parameters this rank's part."""
    if not saved_in(state):
        return state
    owners = {id(value): like for kept, like in _kept_of_parameters(optimizer, state) for value in kept.values()}

    def read(tensor: Tensor) -> Tensor:
        if not isinstance(tensor, SavedTensor):
            return tensor
        like: Any = owners.get(id(tensor))
        if not is_sharded(like):
            return tensor.read()
        return tensor.read_like(like) if like.shape == tensor.shape else dealt_as_saved(tensor, like)

    return replaced(state, read)


def _dealt(optimizer: Any, state: Any) -> Any:
    """Return ``state`` with this rank's part of what belongs to parameters of which it holds a part."""
    sharded = [pair for pair in _kept_of_parameters(optimizer, state) if is_sharded(pair[1])]
    owners = {id(value): like for kept, like in sharded for value in kept.values()}
    if not owners:
        return state
    return replaced(state, lambda each: dealt_like(each, owners.get(id(each))) if each.ndim else each)


def _kept_of_parameters(optimizer: Any, state: Any) -> Iterator[tuple[dict[str, Any], Tensor]]:
    """Yield what a state, if it is in torch's form, keeps of each parameter, with that."""
    if is_in_torchs_form(state):
        parameters = [parameter for group in getattr(optimizer, "param_groups", ()) for parameter in group["params"]]
        numbers = [number for group in state["param_groups"] for number in group["params"]]
        for number, parameter in zip(numbers, parameters, strict=False):
            yield state["state"].get(number, {}), parameter


def _fit_to_parameters(optimizer: Optimizer) -> None:
    """Cast complex numbers to the dtype of the parameter, as torch does with real ones; and order all in memory alike.

    Fused steps go through memory, and would take other numbers where the order is another, such as channels last.
    """
    for parameter, kept in optimizer.state.items():
        for name, value in kept.items():
            is_list = isinstance(value, list)
            kept[name] = [_fitted(each, parameter) for each in value] if is_list else _fitted(value, parameter)


def _fitted(value: Any, parameter: Tensor) -> Any:
    if not isinstance(value, Tensor) or not value.ndim:
        return value
    value = value.to(parameter.dtype) if value.is_complex() else value
    if value.shape != parameter.shape:
        return value.contiguous()
    is_in_order = value.stride() == parameter.stride()
    return value if is_in_order else torch.empty_like(parameter, dtype=value.dtype).copy_(value)
