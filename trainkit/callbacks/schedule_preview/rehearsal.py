"""Schedules of a fit that run alone, ahead of it, on stand-ins for its optimizers."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from torch.optim import Optimizer

from trainkit.callbacks.rates import rates_of
from trainkit.loops.ahead import Ahead
from trainkit.module.optimizers import SchedulerConfig
from trainkit.module.stand_in import StandIn
from trainkit.printable import printable


class Rehearsal:
    """Copies of schedulers, which step as a fit is going to step the schedulers themselves.

    Neither those nor their optimizers are touched; of a function that a schedule calls, a copy is not made.

    Args:
        optimizers: The optimizers of the fit.
        configs: Its schedulers.
        shared: What schedulers may hold and is not to be copied with them, such as the module.

    Attributes:
        remarks: What cannot be foreseen, in sentences.
    """

    def __init__(
        self, optimizers: Sequence[Optimizer], configs: Iterable[SchedulerConfig], shared: Iterable[object] = ()
    ) -> None:
        self.remarks: list[str] = []
        self._stand_ins = [StandIn(optimizer) for optimizer in optimizers]
        self._memo: dict[int, Any] = {id(each): each for each in shared}
        self._memo |= {id(one): other for one, other in zip(optimizers, self._stand_ins, strict=True)}
        pairs = [(config, self._copied(config)) for config in configs]
        self._steps = [(config, scheduler) for config, scheduler in pairs if scheduler is not None]

    def rates(self, ahead: Ahead, most: float) -> Iterator[list[float]]:
        """Yield, for each update that is ahead, the rates of all groups of all optimizers that have one.

        Args:
            ahead: The updates.
            most: Of how many at most.
        """
        by_step = [(config, scheduler) for config, scheduler in self._steps if config.interval == "step"]
        by_epoch = [(config, scheduler) for config, scheduler in self._steps if config.interval == "epoch"]
        step = ahead.step
        for epoch in ahead.epochs(most):
            for _ in range(epoch.updates):
                yield [float(rate) for each in self._stand_ins for rate in rates_of(each) if rate is not None]
                step += 1
                if by_step and not self._step(by_step, step, step):
                    return
            if epoch.ends and not self._step(by_epoch, epoch.index + 1, step):
                return

    def _step(self, due: Iterable[tuple[SchedulerConfig, Any]], count: int, step: int) -> bool:
        """Step the schedulers whose turn it is, as `LRSchedulers` does; return whether none of them failed."""
        for config, scheduler in due:
            if count % config.frequency:
                continue
            try:
                scheduler.step()
            except Exception as error:  # of the user's code, or because a schedule is over
                name = type(scheduler).__name__
                self.remarks.append(
                    f"{name} raises {type(error).__name__} after step {step:,}, where the fit would end with it: "
                    f"{printable(error)}"
                )
                return False
        return True

    def _copied(self, config: SchedulerConfig) -> Any:
        """Return a copy of a scheduler that sets the rates of the stand-ins; None, with a remark, if there is none."""
        name = type(config.scheduler).__name__
        why = None
        if config.reduce_on_plateau:
            why = f"{name} goes by {config.monitor!r}, which nobody can foresee"
        elif not config.goes_by_updates():
            why = f"{name} steps by another count than that of updates or epochs"
        elif id(getattr(config.scheduler, "optimizer", None)) not in self._memo:
            why = f"{name} tells of no optimizer whose rates it sets"
        else:
            try:
                return copy.deepcopy(config.scheduler, self._memo)
            except Exception as error:
                why = f"{name} cannot be copied ({type(error).__name__}: {printable(error)})"
        self.remarks.append(f"{why}; the curve is that without it.")
        return None
