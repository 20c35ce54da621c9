"""Taking values of the code where the state of a checkpoint was loaded over them, and finding the learning rate then.

A schedule goes on from where it is: its learning rate becomes what it would be at the present step, had the run been
made with the values that were taken. That can be computed where a schedule says its rate by the step alone, as most of
torch's do. Elsewhere (``ReduceLROnPlateau``, schedulers of the user's own) the present rate is scaled with the base.
"""

from __future__ import annotations

import copy
import math
import warnings
from bisect import bisect_right
from collections.abc import Collection, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.optim import LBFGS, Optimizer
from torch.optim.lr_scheduler import (
    ChainedScheduler,
    CosineAnnealingWarmRestarts,
    CyclicLR,
    LambdaLR,
    LRScheduler,
    OneCycleLR,
    ReduceLROnPlateau,
    SequentialLR,
)

from trainkit.checkpoint.arguments import (
    CYCLE_OPTIONS,
    attributes_of_arguments,
    flattened,
    has_state,
    names_of,
    vars_of,
)
from trainkit.checkpoint.changes import Rows, is_class, is_in_state
from trainkit.errors import CheckpointError, UnknownNameError, nearest_name
from trainkit.module.optimizers import SchedulerConfig

ANEW = ("optimizer", "scheduler")
"""Names to take that stand for the whole state: the optimizer with its schedulers, or the schedulers alone."""

_BY_STEP = (LambdaLR, OneCycleLR, CyclicLR, CosineAnnealingWarmRestarts)
"""Their ``get_lr`` follows from the step, and not from the rate before it."""


_BUFFERS = (
    ("amsgrad", "max_exp_avg_sq", "exp_avg_sq"),
    ("centered", "grad_avg", "square_avg"),
    ("momentum", "momentum_buffer", "square_avg"),
)
"""Options of optimizers, the average that each needs, and one of the same optimizer that is always there."""


class _Made(NamedTuple):
    """An optimizer or scheduler, and what was in it when the code had made it.

    Attributes:
        place: Its name.
        owner: The optimizer or scheduler.
        values: The options of each parameter group; or the attributes.
    """

    place: str
    owner: Any
    values: Any


class CodeValues:
    """What the code gave to optimizers and schedulers. Make it before a checkpoint is loaded over them."""

    def __init__(self, optimizers: Sequence[Optimizer], schedulers: Sequence[SchedulerConfig]) -> None:
        self._optimizers = [
            _Made(place, optimizer, [{**group} for group in optimizer.param_groups])
            for place, optimizer in zip(names_of("optimizer", len(optimizers)), optimizers, strict=True)
        ]
        self._schedulers = [
            [_Made(*found, _copied(found[1])) for found in flattened(place, config.scheduler)]
            for place, config in zip(names_of("scheduler", len(schedulers)), schedulers, strict=True)
        ]

    def take(self, names: Collection[str], schedulers: Sequence[Any], before: Rows, rows: Rows) -> None:
        """Set values of the code, now that the checkpoint is loaded.

        Args:
            names: Of what to take: full names, such as ``optimizer.lr``.
            schedulers: Those with which the run goes on. A callback may have put others in place of the code's.
            before: What the run was made with.
            rows: What it is made with from now on.

        Raises:
            CheckpointError: If a schedule of the code is over before the present step.
        """
        for made in self._optimizers:
            own = [scheduler for scheduler in schedulers if vars_of(scheduler).get("optimizer") is made.owner]
            parts = [part for each in self._schedulers for part in each if any(each[0].owner is one for one in own)]
            if any(name.rpartition(".")[0] in (made.place, *(part.place for part in parts)) for name in names):
                _take(names, made, own, parts, before, rows)

    def start_schedules(self) -> None:
        """Set the rates with which the code's schedules begin; they were not restored, and the optimizers were."""
        for made in self._optimizers:
            for group, values in zip(made.owner.param_groups, made.values, strict=False):
                cycled = ("momentum", "betas") if "max_momentum" in {**group, **values} else ()
                for option in ("lr", "initial_lr", *CYCLE_OPTIONS, *cycled):
                    group.pop(option, None)
                    if option in values:
                        group[option] = _copy(values[option])


class _Schedule:
    """The rates of an optimizer by its schedulers, before values were taken.

    Args:
        optimizer: Whose rates.
        schedulers: Its schedulers.
        said: The rate that the code said: one, or one for each group; None where only the groups tell.
    """

    def __init__(self, optimizer: Optimizer, schedulers: list[Any], said: Any) -> None:
        self._optimizer = optimizer
        self._schedulers = schedulers
        self._rates = [_number(group["lr"]) for group in optimizer.param_groups]
        self._bases = _bases(optimizer, said)
        self._shares = self._present_shares(self._bases)

    def go_on(self, said: Any) -> None:
        """Set the rates of the present step, by what the schedulers and groups hold now."""
        bases = _bases(self._optimizer, said)
        new = self._present_shares(bases)
        known = [index for index, share in enumerate(new) if share and self._shares[index]]
        alone = len(known) == len(self._schedulers) == 1
        for group, rate, base, old_base, share, old_share in zip(
            self._optimizer.param_groups,
            self._rates,
            bases,
            self._bases,
            _products(new, known, len(bases)),
            _products(self._shares, known, len(bases)),
            strict=True,
        ):
            # Several schedulers move one rate together: what is known of each tells how much it has changed.
            changed = rate * _ratio(base, old_base) * _ratio(share, old_share)
            _set_rate(group, base * share if alone or not rate * old_share else changed)

    def _present_shares(self, bases: list[float]) -> list[list[float] | None]:
        return [_shares(scheduler, bases) for scheduler in self._schedulers]


def _add_buffers(optimizer: Optimizer, group: dict[str, Any]) -> None:
    """Begin the averages that a taken option needs, as torch does at a first step and at no later one."""
    for option, buffer, beside in _BUFFERS:
        for parameter in group["params"] if group.get(option) else ():
            own = optimizer.state.get(parameter, {})
            if beside in own and buffer not in own:
                own[buffer] = torch.zeros_like(parameter)


def _shorten_history(optimizer: LBFGS) -> None:
    """Keep the newest directions only, as many as the optimizer has room for."""
    (group,) = optimizer.param_groups  # it takes no more
    own = optimizer.state[group["params"][0]]
    own.pop("al", None)  # is made anew, of the new size
    for name in ("old_dirs", "old_stps", "ro"):
        if own.get(name):
            own[name] = own[name][-group["history_size"] :]


def _products(shares: list[list[float] | None], known: list[int], num_groups: int) -> list[float]:
    chosen = [share for index in known if (share := shares[index])]
    return [math.prod(share[group] for share in chosen) for group in range(num_groups)]


def resolve_names(take: str | Sequence[str], rows: Rows) -> set[str]:
    """Return the full names of what is to be taken.

    Args:
        take: Names of arguments (``"lr"``, ``"T_max"``) or full names (``"optimizer.lr"``), or one of `ANEW`.
        rows: What the code gives.

    Raises:
        UnknownNameError: If nothing has such a name.
    """
    given = take.split(",") if isinstance(take, str) else take
    found: set[str] = set()
    for name in (each.strip() for each in given):
        if name in ANEW:
            # Its schedules begin with rates of their own.
            starts = ("scheduler", "optimizer") if name == "optimizer" else ("scheduler",)
            found |= {name, *(row for row in rows if row.startswith(starts) or _is_rate(row))}
            continue
        # What is not in the state of an optimizer or scheduler is the code's in any case, and may be named.
        matches = {row for row in rows if name in (row, row.rpartition(".")[2]) and not is_class(row)}
        if not matches:
            allowed = {row.rpartition(".")[2] for row in rows if is_in_state(row) and not is_class(row)}
            # What is the code's in any case may be named too, and misspelt.
            others = {row.rpartition(".")[2] for row in rows if not is_class(row)}
            nearest = nearest_name(name, {*allowed, *ANEW}) or nearest_name(name, others)
            raise UnknownNameError("value to take", name, {*allowed, *ANEW, *filter(None, [nearest])}, "fit(take=...)")
        found |= {row for row in matches if is_in_state(row)}
    return found


def _take(
    names: Collection[str], made: _Made, schedulers: list[Any], parts: list[_Made], before: Rows, rows: Rows
) -> None:
    optimizer = made.owner
    said, takes_lr = before.get(f"{made.place}.lr"), f"{made.place}.lr" in names
    schedule = _Schedule(optimizer, schedulers, said)
    for group, values in zip(optimizer.param_groups, made.values, strict=False):
        taken = [option for option in values if f"{made.place}.{option}" in names]
        group.update({option: _copy(values[option]) for option in taken})
        if takes_lr and "initial_lr" in values:
            group["initial_lr"] = _copy(values["initial_lr"])
        _add_buffers(optimizer, group)
    if f"{made.place}.history_size" in names and isinstance(optimizer, LBFGS):
        _shorten_history(optimizer)
    if not {f"{made.place}.fused", f"{made.place}.capturable"}.isdisjoint(names):
        # torch moves the counts of steps to where these options need them, whenever it loads a state.
        optimizer.load_state_dict(optimizer.state_dict())
    for part in parts:
        _take_arguments(part, names, rows, takes_lr)
    if schedulers and (takes_lr or any(name.startswith("scheduler") for name in names)):
        schedule.go_on(rows.get(f"{made.place}.lr"))
        for scheduler in (inner for each in schedulers for _, inner in flattened("", each)):
            if "_last_lr" in vars_of(scheduler):
                vars(scheduler).update(_last_lr=[_copy(group["lr"]) for group in optimizer.param_groups])


def _is_rate(name: str) -> bool:
    return name.startswith("optimizer") and name.endswith(".lr")


def _take_arguments(part: _Made, names: Collection[str], rows: Rows, takes_lr: bool) -> None:
    scheduler, values = part.owner, part.values
    taken = {name.rpartition(".")[2] for name in names if name.rpartition(".")[0] == part.place}
    if taken and isinstance(scheduler, OneCycleLR | CyclicLR):
        _make_anew(scheduler, {name.rpartition(".")[2]: rows[name] for name in rows if _is_argument(name, part.place)})
        return
    attributes = [each for name, each in attributes_of_arguments(type(scheduler), values).items() if name in taken]
    if "mode" in taken and isinstance(scheduler, ReduceLROnPlateau):
        attributes += ["mode_worse", "best"]  # the best value so far is none in the other direction
    if takes_lr and "base_lrs" in values and not isinstance(scheduler, OneCycleLR | CyclicLR):
        attributes.append("base_lrs")
    for attribute in attributes:
        _assign(scheduler, attribute, values[attribute])
    if taken and isinstance(scheduler, CosineAnnealingWarmRestarts):
        scheduler.T_i = scheduler.T_0  # torch sets it anew only where it has grown


def _assign(scheduler: Any, attribute: str, value: Any) -> None:
    if not isinstance(value, list) or not any(has_state(item) for item in value):
        setattr(scheduler, attribute, _copy(value))
        return
    # Loading has written into the user's callables themselves.
    for item, made in zip(getattr(scheduler, attribute), value, strict=True):
        if has_state(made):
            vars(item).update(vars(made))


def _is_argument(name: str, place: str) -> bool:
    return name.rpartition(".")[0] == place and is_in_state(name)


def _make_anew(scheduler: OneCycleLR | CyclicLR, arguments: Rows) -> None:
    """Give a scheduler other arguments, which torch keeps only in what it makes of them."""
    own = vars(scheduler)
    kept = {name: own[name] for name in ("last_epoch", "_step_count")}
    if isinstance(scheduler, OneCycleLR):
        made: LRScheduler = OneCycleLR(scheduler.optimizer, **arguments)
    else:
        made = CyclicLR(scheduler.optimizer, scale_fn=own.get("_scale_fn_custom"), **arguments)
    own.update({**vars(made), **kept})


def _shares(scheduler: Any, bases: list[float]) -> list[float] | None:
    """Return the present rate of a schedule as a share of the base, for each group; None if it cannot be computed."""
    optimizer = scheduler.optimizer
    rates = [_copy(group["lr"]) for group in optimizer.param_groups]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of torch, that a step is given, which users should not do
        try:
            is_known = _set_by_step(scheduler, getattr(scheduler, "last_epoch", 0), bases)
        except ValueError as error:
            raise CheckpointError(
                f"{type(scheduler).__name__} cannot go on at step {scheduler.last_epoch} with what was taken: {error}. "
                "Take less of it, or take=['scheduler'], which begins the schedule anew."
            ) from error
    computed = [_number(group["lr"]) for group in optimizer.param_groups]
    for group, rate in zip(optimizer.param_groups, rates, strict=True):
        group["lr"] = rate
    return [_ratio(*pair) for pair in zip(computed, bases, strict=True)] if is_known else None


def _set_by_step(scheduler: Any, step: int, bases: list[float]) -> bool:
    """Set the rates that a schedule has at a step, if it tells them by the step alone; return whether it does."""
    groups = scheduler.optimizer.param_groups
    if isinstance(scheduler, SequentialLR):
        milestones = scheduler.state_dict()["_milestones"]
        index = bisect_right(milestones, step)
        return _set_by_step(scheduler._schedulers[index], step - (milestones[index - 1] if index else 0), bases)
    if isinstance(scheduler, ChainedScheduler):
        shares = [_shares(part, bases) for part in scheduler._schedulers]
        if None in shares:
            return False
        products = _products(shares, list(range(len(shares))), len(groups))
        for group, base, product in zip(groups, bases, products, strict=True):
            _set_rate(group, base * product)
        return True
    if not _goes_by_step(scheduler) or step < 0:
        return False
    counted = vars(scheduler).get("_step_count")
    scheduler.step(step)
    vars(scheduler).update(_step_count=counted)
    return True


def _goes_by_step(scheduler: Any) -> bool:
    cls = type(scheduler)
    owner = next((base for base in cls.__mro__ if "get_lr" in vars(base)), None)
    if owner is None or cls.step not in (LRScheduler.step, CosineAnnealingWarmRestarts.step):
        return False
    # A callback may have added groups, of which the scheduler knows nothing.
    knows_all = len(scheduler.base_lrs) == len(scheduler.optimizer.param_groups)
    return knows_all and (owner in _BY_STEP or "_get_closed_form_lr" in vars(owner))


def _bases(optimizer: Optimizer, said: Any) -> list[float]:
    """Return the rate that each group began with: its own note, else what was ``said``, else the present one."""
    groups = optimizer.param_groups
    given = said if isinstance(said, list) else [said] * len(groups)
    given = [*given, *[None] * len(groups)][: len(groups)]
    rates = zip(groups, given, strict=True)
    return [_number(group.get("initial_lr", group["lr"] if rate is None else rate)) for group, rate in rates]


def _number(rate: Any) -> float:
    number: float = rate.reshape(-1).tolist()[0] if isinstance(rate, Tensor) else rate
    return number


def _set_rate(group: dict[str, Any], rate: float) -> None:
    like = group["lr"]
    group["lr"] = torch.full_like(like, rate) if isinstance(like, Tensor) else rate


def _ratio(new: float, old: float) -> float:
    return new / old if old else 1.0


def _copied(owner: Any) -> dict[str, Any]:
    return {name: _copy(value) for name, value in vars_of(owner).items() if name not in ("optimizer", "_schedulers")}


def _copy(value: Any) -> Any:
    """Return a copy of what a later step, or loading a state, would change in place."""
    if isinstance(value, Tensor):
        return value.clone()
    if isinstance(value, list):
        return [_copy(item) for item in value]
    return copy.copy(value) if has_state(value) else value
