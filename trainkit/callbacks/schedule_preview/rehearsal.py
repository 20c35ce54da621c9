"""Schedules of a fit that run alone, ahead of it, on stand-ins for its optimizers."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from types import CellType, FunctionType
from typing import Any

from torch import nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from trainkit.callbacks.rates import set_rates
from trainkit.interval import Interval
from trainkit.loops.ahead import Ahead
from trainkit.module.optimizers import SchedulerConfig
from trainkit.module.stand_in import StandIn
from trainkit.printable import printable
from trainkit.progress import Progress


@dataclass(slots=True)
class _Copy:
    """A scheduler of the rehearsal.

    Attributes:
        scheduler: The copy.
        by_epoch: Whether it steps behind epochs, and not behind updates.
        every: From one of its steps to the next.
        seen: The count of that when this was last asked for.
    """

    scheduler: Any
    by_epoch: bool
    every: Interval
    seen: float

    def times(self, counted: Progress) -> int:
        """Return how often it is to step now."""
        before, self.seen = self.seen, self.every.count(counted)
        return self.every.passed(before, self.seen)


class Rehearsal:
    """Copies of schedulers, which step as a fit is going to step the schedulers themselves.

    Neither those nor their optimizers are touched. Of functions that schedules call, what they have closed over is
    copied too; what they keep in global variables or in classes is not.

    Args:
        optimizers: The optimizers of the fit.
        configs: Its schedulers.
        ahead: The updates it has yet to make.
        shared: What schedulers may hold and is not to be copied with them, such as the module.
        whoever: Who steps the schedulers in a way that nobody knows; empty if the fit steps them.

    Attributes:
        reasons: Why the rate of a group cannot be foreseen, for each group that has one; None where it can.
        remarks: What else is to be known, in sentences.
    """

    def __init__(
        self,
        optimizers: Sequence[Optimizer],
        configs: Iterable[SchedulerConfig],
        ahead: Ahead,
        shared: Iterable[object] = (),
        whoever: str = "",
    ) -> None:
        self.remarks: list[str] = []
        self._ahead = ahead
        self._whoever = whoever
        self._stand_ins = [StandIn(optimizer) for optimizer in optimizers]
        self._memo: dict[int, Any] = {id(each): each for each in shared}
        self._memo |= {id(one): other for one, other in zip(optimizers, self._stand_ins, strict=True)}
        self._why = [_own_warmup(optimizer) for optimizer in optimizers]
        places = {id(optimizer): place for place, optimizer in enumerate(optimizers)}
        self._copies: list[_Copy] = []
        for config in configs:
            self._copy(config, places.get(id(getattr(config.scheduler, "optimizer", None))))
        self.reasons = [
            f"{why}; it begins with {rate:.3g}" if why and not _own_warmup(stand_in) else why
            for stand_in, why in zip(self._stand_ins, self._why, strict=True)
            for rate in set_rates(stand_in)
            if rate is not None
        ]

    def rates(self, most: float) -> Iterator[list[float]]:
        """Yield, for each update that is ahead, ``most`` at most, the rates of all groups that have one."""
        ahead, counted = self._ahead, self._ahead.counters()
        for epoch in ahead.epochs(most):
            counted.epoch, counted.is_last = epoch.index, False
            batches = counted.total_batches - epoch.begin
            samples = counted.samples - ahead.samples_in(epoch.begin)
            for done in epoch.closes():
                rates = [float(rate) for each in self._stand_ins for rate in set_rates(each) if rate is not None]
                if len(rates) != len(self.reasons):
                    self.remarks.append(f"Parameter groups come after step {counted.global_step:,}: not drawn on.")
                    return
                yield rates
                counted.global_step += 1
                counted.total_batches = batches + done
                counted.samples = samples + ahead.samples_in(done)
                if self._copies and not self._step(counted, by_epoch=False):
                    return
            counted.is_last = epoch.ends
            if epoch.ends and not self._step(counted, by_epoch=True):
                return

    def _step(self, counted: Progress, *, by_epoch: bool) -> bool:
        """Step the schedulers whose turn it is, as `LRSchedulers` does; return whether none of them failed."""
        for each in self._copies:
            if each.by_epoch is not by_epoch:
                continue
            try:
                for _ in range(each.times(counted)):
                    each.scheduler.step()
            except Exception as error:  # of the user's code, or because a schedule is over
                name = type(each.scheduler).__name__
                self.remarks.append(
                    f"{name} raises {type(error).__name__} after step {counted.global_step:,}, where the fit would end "
                    f"with it: {printable(error)}"
                )
                return False
        return True

    def _copy(self, config: SchedulerConfig, place: int | None) -> None:
        """Add a copy of a scheduler, which sets the rates of the stand-ins; or the reason why there is none.

        Args:
            config: The scheduler.
            place: Of its optimizer among those of the fit; None if it tells of none.
        """
        name = type(config.scheduler).__name__
        every = config.counts() or Interval(config.frequency, "steps" if config.interval == "step" else "epochs")
        why = self._unforeseen(config, every)
        if why is None and place is None:
            why = f"{name} does not tell whose rates it sets"
        if why is None:
            try:
                _copy_functions(_held(config.scheduler), self._memo)
                scheduler = copy.deepcopy(config.scheduler, self._memo)
            except Exception as error:  # of the user's code
                why = f"{name} cannot be copied ({type(error).__name__}: {printable(error)})"
            else:
                seen = every.count(self._ahead.counters())
                self._copies.append(_Copy(scheduler, config.interval == "epoch", every, seen))
                return
        for each in range(len(self._why)) if place is None else (place,):
            self._why[each] = why

    def _unforeseen(self, config: SchedulerConfig, every: Interval) -> str | None:
        """Return why nobody knows when a scheduler steps, or how; None if that is known."""
        name, sizes = type(config.scheduler).__name__, self._ahead.sizes
        if self._whoever:
            return f"{self._whoever} steps {name} itself"
        if any(isinstance(value, nn.Module) for value in _held(config.scheduler)):
            return f"{name} holds a module, which it may change"
        if config.reduce_on_plateau:
            return f"{name} goes by {config.monitor!r}, which nobody can foresee"
        if every.unit == "epochs" and self._ahead.num_batches is None:
            return f"{name} steps by epoch, and nobody knows the length of one"
        if every.unit == "samples":
            if sizes is None:
                return f"{name} goes by samples, and the loader does not tell how many are in a batch"
            size = sizes.size * sizes.ranks
            self.remarks.append(f"{name} goes by samples, of which the loader has {size:,} in a batch.")
        return None


def _copy_functions(value: Any, memo: dict[int, Any]) -> None:
    """Put copies of the functions that a scheduler calls into ``memo``: ``deepcopy`` takes functions as they are.

    Args:
        value: The scheduler, or a part of it.
        memo: That of ``deepcopy``.
    """
    if isinstance(value, FunctionType) and value.__closure__ and id(value) not in memo:
        cells = tuple(CellType() for _ in value.__closure__)
        memo[id(value)] = mine = FunctionType(value.__code__, value.__globals__, value.__name__, None, cells)
        for cell, own in zip(value.__closure__, cells, strict=True):
            with suppress(ValueError):  # of one that is still empty
                _copy_functions(cell.cell_contents, memo)
                own.cell_contents = copy.deepcopy(cell.cell_contents, memo)
        mine.__defaults__, mine.__kwdefaults__ = copy.deepcopy((value.__defaults__, value.__kwdefaults__), memo)
    elif isinstance(value, list | tuple):
        for each in value:
            _copy_functions(each, memo)
    elif isinstance(value, partial):
        _copy_functions(value.func, memo)
    elif isinstance(value, LRScheduler):
        _copy_functions(_held(value), memo)


def _held(scheduler: Any) -> list[Any]:
    return [*getattr(scheduler, "__dict__", {}).values()]


def _own_warmup(optimizer: Optimizer) -> str | None:
    """Return how an optimizer raises its own rates, as schedule-free ones do; None if it does not."""
    # schedulefree counts steps as "k", pytorch_optimizer as "step".
    done = [(group, group.get("k", 0) or group.get("step", 0)) for group in optimizer.param_groups]
    left = [group for group, steps in done if (group.get("warmup_steps") or 0) > steps]
    if not left:
        return None
    steps = max(group["warmup_steps"] for group in left)
    rates = " and ".join(dict.fromkeys(f"{float(group['lr']):.3g}" for group in left))
    return f"{type(optimizer).__name__} warms up by itself, over {steps:,} updates to {rates}"
