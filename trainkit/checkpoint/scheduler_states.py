"""Whether saved states are such as torch's schedulers save, and lead to learning rates that are numbers."""

from __future__ import annotations

import copy
import math
import warnings
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import suppress
from itertools import chain
from typing import Annotated, Any

from torch import Tensor
from torch.optim import Optimizer, swa_utils
from torch.optim import lr_scheduler as schedulers

from trainkit.checkpoint.arguments import flattened, scheduler_arguments
from trainkit.checkpoint.options import is_finite, wrong_in_options
from trainkit.errors import StateError
from trainkit.module.stand_in import StandIn
from trainkit.storage.schema import AtLeast, mismatch
from trainkit.storage.tensors import wrong_number
from trainkit.storage.walk import place_of_entry

MOST_STEPS = 10**9
"""How often something can have been stepped. Some raise a whole number to that power, which may take for ever."""

_NEEDED = ("base_lrs", "best", "cooldown_counter", "last_epoch", "num_bad_epochs", "_schedulers", "T_cur", "T_i")
"""What a scheduler that has it cannot go on without. For all else the code's value will do."""

_OF_ONE_LENGTH = (
    *("base_lrs", "max_lrs", "base_momentums", "max_momentums", "lr_lambdas", "swa_lrs"),
    *("_schedulers", "_milestones"),
)
"""Lists with an entry for each parameter group, or each scheduler within."""

_COUNT = Annotated[int, AtLeast(0, most=MOST_STEPS)]
_WITHIN_A_STEP = ("_is_initial", "_get_lr_called_within_step")
_OF_THE_USER = {"lr_lambdas": list[dict[str, Any] | None], "_scale_fn_custom": dict[str, Any] | None}
"""Attributes of callables, which may be anything."""

_COUNTERS = ("last_epoch", "_step_count", "num_bad_epochs", "cooldown_counter")
_MOVED = ("lr", "momentum", "betas")
_NUM_STEPS = 3

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
    schedulers.ReduceLROnPlateau,
    schedulers.SequentialLR,
    schedulers.ChainedScheduler,
    swa_utils.SWALR,
)
"""Schedulers that compute rates from their state alone, and call nothing of the user's."""


def is_of_torch(owner: object) -> bool:
    """Whether torch knows what an optimizer or scheduler saves, and nobody else adds to it."""
    return type(owner).__module__.startswith("torch.optim")


def check_scheduler_state(scheduler: Any, state: Any, place: str = "") -> None:
    """Raise `StateError` if ``scheduler`` is one of torch, and ``state`` is not such as it saves.

    Args:
        scheduler: Of whose state.
        state: What was saved.
        place: Where ``state`` is in what is restored.
    """
    if is_of_torch(scheduler) and (wrong := wrong_in_scheduler(scheduler, state)):
        raise StateError(f"{place}: {wrong}" if place else wrong)


def wrong_in_scheduler(scheduler: Any, state: Any) -> str:
    """Return in what a state is not such as that of ``scheduler``; empty if it is. Neither is changed."""
    return _wrong_in_form(scheduler, state) or next(filter(None, _wrong_in_course(scheduler, state)), "")


# What is compared with the code


def _wrong_in_form(scheduler: Any, state: Any) -> str:
    own = scheduler.state_dict()
    wrong = _unlike(state, own, "") or next(filter(None, wrong_in_options(scheduler, state, vars(scheduler), "")), "")
    if wrong or "_schedulers" not in own:
        return wrong
    for index, (part, inner) in enumerate(zip(scheduler._schedulers, state["_schedulers"], strict=True)):
        if wrong := _wrong_in_form(part, inner):
            return f"_schedulers[{index}].{wrong}"
    return ""


def _unlike(saved: Any, own: Any, place: str) -> str:
    """Return in what a state is not of the kinds of which the state of the code's scheduler is."""
    if isinstance(own, bool | str):
        return mismatch(saved, type(own), place)
    if isinstance(own, int | float | Tensor):
        wrong = wrong_number(saved, place)
        # Of what the code has not seen yet, such as the best value of a metric, nothing is known.
        is_odd = not wrong and (math.isnan(saved) or (is_finite(own) and not is_finite(saved)))
        is_below = not wrong and is_finite(own) and own >= 0 > saved and "_last_lr" not in place
        return f"{place} is {float(saved)}, and that of the code {float(own)}" if is_odd or is_below else wrong
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
    for key, value in saved.items():
        below = place_of_entry(key, place)
        if isinstance(own, Counter):  # milestones, which may be others than those of the code
            wrong = wrong_number(key, below) or mismatch(value, _COUNT, below)
        elif key in _OF_THE_USER:
            wrong = mismatch(value, _OF_THE_USER[key], below)
        elif key in _WITHIN_A_STEP and key in own:
            wrong = "" if value is own[key] else f"{below} is {value!r}, as nothing that is saved"
        elif key in _COUNTERS and key in own:
            # Those of schedulers whose turn it is not may stand before the beginning.
            wrong = mismatch(value, _COUNT, below) if own[key] >= 0 or value != own[key] else ""
        else:
            wrong = _unlike(value, own.get(key), below)
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


# What is computed from it


def _wrong_in_course(scheduler: Any, state: Any) -> Iterator[str]:
    """Yield what goes wrong when copies of a scheduler and of those within it go on from a state."""
    if any(type(part) not in _CLOSED or _has_own_scale(part) for _, part in flattened("", scheduler)):
        # Not as a whole; but a part of it may be checked by itself.
        for index, part in enumerate(getattr(scheduler, "_schedulers", ())):
            for wrong in filter(None, _wrong_in_course(part, state["_schedulers"][index])):
                yield f"_schedulers[{index}]: {wrong}"
        return
    loaded = _on(StandIn(scheduler.optimizer), scheduler)
    made = [_can_be_made(part) for _, part in flattened("", loaded)]
    try:
        loaded.load_state_dict(copy.deepcopy(state))
        for (_, part), could in zip(flattened("", loaded), made, strict=True):
            if could and not _is_of_one_course(part, _make(part)):
                yield "_schedule_phases are not those of its total_steps"
        yield from _wrong_rates(loaded)
        for (_, part), (_, own) in zip(flattened("", loaded), flattened("", scheduler), strict=True):
            if not _wrong_turn(_on(StandIn(own.optimizer), own)):  # else the code's own schedule ends there too
                yield _wrong_turn(part)
    except Exception as error:
        yield f"{type(scheduler).__name__} cannot go on from it: {type(error).__name__}: {error}"


def _has_own_scale(scheduler: Any) -> bool:
    return type(scheduler) is schedulers.CyclicLR and vars(scheduler)["_scale_fn_custom"] is not None


def _on(optimizer: Optimizer, scheduler: Any) -> Any:
    """Return a copy of ``scheduler`` that sets the rates of ``optimizer``."""
    trial = copy.copy(scheduler)
    trial.optimizer = optimizer
    if hasattr(scheduler, "_schedulers"):
        vars(trial).update(_schedulers=[_on(optimizer, part) for part in scheduler._schedulers])
    return trial


def _make(scheduler: Any) -> Any:
    """Make another scheduler with the arguments of one, as its constructor looks at them."""
    return type(scheduler)(StandIn(scheduler.optimizer), **scheduler_arguments(scheduler))


def _is_of_one_course(scheduler: Any, other: Any) -> bool:
    """Whether what one has made of its arguments is what the other has made of them, rounding aside."""
    ends, others = (
        [phase["end_step"] for phase in each.state_dict().get("_schedule_phases", ())] for each in (scheduler, other)
    )
    return len(ends) == len(others) and all(map(_are_close, ends, others))


def _are_close(end: float, other: float) -> bool:
    return math.isclose(end, other, abs_tol=1e-3)


def _can_be_made(scheduler: Any) -> bool:
    with suppress(Exception):
        _make(scheduler)  # of some arguments nothing is kept
        return True
    return False


def _wrong_rates(scheduler: Any) -> Iterator[str]:
    """Go on for some steps, and yield which options of the optimizer are no numbers then."""
    parts = [part for _, part in flattened("", scheduler)]
    groups = scheduler.optimizer.param_groups
    names = [name for name in _MOVED if all(is_finite(group.get(name)) for group in groups)]
    is_plateau = isinstance(scheduler, schedulers.ReduceLROnPlateau)
    if is_plateau:
        scheduler.patience = 0
    for _ in range(_NUM_STEPS):
        if any(type(part) is schedulers.OneCycleLR and 0 < part.total_steps <= part.last_epoch for part in parts):
            return  # it is over, which says torch itself
        with warnings.catch_warnings(action="ignore"):  # of the order of steps
            scheduler.step(*[math.nan] * is_plateau)  # which is never better
        for name in names:
            wrong = [value for group in groups if not _is_usable(value := group.get(name))]
            if wrong:
                yield f"it leads to a {name} of {wrong[0]}"


def _wrong_turn(scheduler: Any) -> str:
    """Return what goes wrong where a schedule turns, at one of the whole numbers that it holds."""
    if hasattr(scheduler, "_schedulers") or isinstance(scheduler, schedulers.ReduceLROnPlateau):
        return ""  # their steps are those of others, or follow from a metric
    arguments = (value for name, value in vars(scheduler).items() if not name.startswith("_"))
    held = (value if isinstance(value, Counter) else [value] for value in arguments)
    turns = {turn for turn in chain.from_iterable(held) if type(turn) is int and turn > scheduler.last_epoch}
    for turn in sorted(turns):
        vars(trial := copy.copy(scheduler)).update(last_epoch=turn - 1)
        try:
            with warnings.catch_warnings(action="ignore"):
                trial.step()
        except Exception as error:
            return f"{type(scheduler).__name__} cannot go on from it at step {turn}: {type(error).__name__}: {error}"
    return ""


def _is_usable(value: Any) -> bool:
    return not isinstance(value, complex) and is_finite(value)
