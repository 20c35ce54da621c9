"""The plugin that draws the learning rates of a fit before it begins."""

from __future__ import annotations

import math
import shutil
import sys
import warnings
from collections.abc import Iterator
from typing import TYPE_CHECKING

from trainkit.callbacks.output_kind import output_kind
from trainkit.callbacks.rates import short_names
from trainkit.callbacks.schedule_preview.curve import Curve
from trainkit.callbacks.schedule_preview.drawing import BLOCKS, drawing
from trainkit.callbacks.schedule_preview.rehearsal import Rehearsal
from trainkit.data.batch_sizes import batch_sizes
from trainkit.hooks.callback import Callback
from trainkit.hooks.specs import hookimpl
from trainkit.loops.ahead import Ahead
from trainkit.module import TrainModule
from trainkit.output import say
from trainkit.reflection import overrides
from trainkit.seed import isolate_rng

if TYPE_CHECKING:
    from trainkit.trainer import Trainer

MOST_UPDATES = 500_000
"""More are not rehearsed: a scheduler takes about two microseconds for a step."""

OF_ENDLESS = 10_000
"""How many are, where nobody knows how many there are going to be."""

WIDTH, MOST_WIDTH = 80, 100
"""Characters of a line where there is no terminal, and at most in one."""


class SchedulePreview(Callback):
    """Draws the learning rates of a fit before it begins; what ``Trainer(print_schedule=True)`` adds.

    The schedules run alone, on stand-ins for the optimizers: the fit is the same with and without it, random numbers
    included. A resumed fit draws what is left of it.
    """

    # Behind the plugins that settle the accumulation, and the summary of the module.
    @hookimpl(trylast=True)
    def on_fit_start(self, trainer: Trainer, module: TrainModule) -> None:
        if trainer.is_global_zero and trainer.optimizers:
            with isolate_rng(), warnings.catch_warnings(action="ignore"):
                lines = list(preview(trainer, module))
            if lines:
                say("\n".join(lines))


def preview(trainer: Trainer, module: TrainModule) -> Iterator[str]:
    """Yield the lines that tell of the rates of the running fit; none if it makes no update."""
    run = trainer.fit_run
    sizes = batch_sizes(trainer.train_dataloader, trainer.strategy.data_world_size)
    ahead = Ahead.of(run, trainer.num_training_batches, sizes)
    if not ahead.updates:
        return
    steps_itself = not module.automatic_optimization or overrides(module, "lr_scheduler_step", TrainModule)
    whoever = type(module).__name__ if steps_itself else ""
    rehearsal = Rehearsal(run.optimizers, run.schedulers, ahead, shared=(module, trainer), whoever=whoever)
    updates = int(min(ahead.updates, OF_ENDLESS if math.isinf(ahead.updates) else MOST_UPDATES))
    width = min(MOST_WIDTH, shutil.get_terminal_size().columns) if output_kind() == "terminal" else WIDTH
    names = short_names(run.optimizers, run.schedulers)
    curves = [Curve(name, updates, width, why) for name, why in zip(names, rehearsal.reasons, strict=True)]
    for index, rates in enumerate(rehearsal.rates(updates)):
        for curve, rate in zip(curves, rates, strict=True):
            curve.add(index, rate)
    yield f"trainkit: learning rates of {_what(ahead, updates)}"
    yield from drawing(curves, ahead, updates, width, in_blocks=_holds_blocks())
    for remark in rehearsal.remarks:
        yield f"note: {remark}"


def _what(ahead: Ahead, updates: int) -> str:
    if math.isinf(ahead.updates):
        return f"the next {updates:,} updates, of which nobody knows how many there are going to be"
    part = f"the first {updates:,} of " if updates < ahead.updates else ""
    still = " that are left" if ahead.step else ""
    return f"{part}{int(ahead.updates):,} update{'s' * (ahead.updates != 1)}{still}"


def _holds_blocks() -> bool:
    try:
        f"{BLOCKS}│└─┬".encode(getattr(sys.stdout, "encoding", None) or "ascii")
    except (LookupError, UnicodeEncodeError):
        return False
    return True
