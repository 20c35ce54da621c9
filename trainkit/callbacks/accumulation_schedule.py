"""Gradient accumulation with a number of batches per update that depends on the epoch."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, ClassVar

from trainkit.checks import is_whole, takes_numpy
from trainkit.errors import ConfigError
from trainkit.hooks.callback import Callback
from trainkit.hooks.manager import PluginStage

if TYPE_CHECKING:
    from trainkit.module import TrainModule
    from trainkit.trainer import Trainer


class GradientAccumulationScheduler(Callback):
    """Sets how many batches make an update, by epoch; the same as ``Trainer(accumulate_grad_batches={...})``.

    Args:
        scheduling: Maps an epoch (counted from 0) to the number of batches per update from that epoch on. Before the
            first epoch in it the number is 1: ``{4: 2}`` is ``{0: 1, 4: 2}``.

    Raises:
        ConfigError: If it is empty, or an epoch or a number is not usable; when a fit starts, if it contradicts the
            Trainer's ``accumulate_grad_batches`` or optimization is manual.
    """

    stage: ClassVar[PluginStage] = "setup"  # first in on_fit_start: all other plugins see the schedule

    @takes_numpy
    def __init__(self, scheduling: Mapping[int, int]) -> None:
        if not isinstance(scheduling, Mapping) or not scheduling:
            raise ConfigError(
                f"scheduling={scheduling!r} must map epochs to batches per update, such as {{0: 1, 4: 2}}."
            )
        for epoch, batches in scheduling.items():
            if not is_whole(epoch, at_least=0):
                raise ConfigError(f"scheduling={dict(scheduling)}: {epoch!r} is no epoch. Epochs are counted from 0.")
            if not is_whole(batches, at_least=1):
                raise ConfigError(f"scheduling={dict(scheduling)}: {batches!r} is no number of batches of at least 1.")
        # Without epoch 0 the first epochs would have no number at all.
        self.scheduling = {0: 1, **dict(sorted(scheduling.items()))}

    def going_to_accumulate_grad_batches(self) -> bool:
        """Whether any update accumulates more than one batch."""
        return any(batches > 1 for batches in self.scheduling.values())

    def on_fit_start(self, trainer: Trainer, module: TrainModule) -> None:
        run = trainer.fit_run
        # {0: 1} is what the Trainer has if nothing was given.
        given = "'auto'" if run.splits_batches else run.accumulation.schedule
        if given not in ({0: 1}, self.scheduling):
            raise ConfigError(
                f"Trainer(accumulate_grad_batches={given}) and GradientAccumulationScheduler("
                f"{self.scheduling}) contradict each other. Leave out one of them."
            )
        if self.going_to_accumulate_grad_batches() and not module.automatic_optimization:
            raise ConfigError(
                f"GradientAccumulationScheduler needs automatic optimization, and {type(module).__name__} has "
                "automatic_optimization = False. Leave it out and call optimizer.step() every few batches."
            )
        # Before the first epoch opens a group, which reads the schedule.
        run.accumulation.schedule = self.scheduling


def schedule_of(callbacks: Iterable[object], given: Mapping[int, int]) -> Mapping[int, int]:
    """Return batches per update, by the epoch from which each number holds: a callback's, or those of the Trainer."""
    return next((each.scheduling for each in callbacks if isinstance(each, GradientAccumulationScheduler)), given)
