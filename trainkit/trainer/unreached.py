"""Warning of intervals that are longer than the run: what goes by them never happens."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from torch.utils.data import BatchSampler, DataLoader, default_collate

from trainkit.callbacks.accumulation_schedule import schedule_of
from trainkit.data.tensors import TensorLoader
from trainkit.interval import Interval, Unit
from trainkit.loops.run import FitRun
from trainkit.output import warn
from trainkit.trainer.arguments import DataArguments

if TYPE_CHECKING:
    from trainkit.trainer import Trainer

_NO_VALIDATION = (
    "this fit never validates, and nothing that goes by a validation acts, such as EarlyStopping. To validate never, "
    "say limit_val_batches=0"
)


class _Use(NamedTuple):
    """Something that goes by an interval.

    Attributes:
        said: What says so, such as ``"log_every_n_steps='1M samples'"``.
        every: What it says.
        never: What it means that it is not reached.
    """

    said: str
    every: Interval
    never: str


def warn_of_unreached(trainer: Trainer, run: FitRun, began_at_step: int) -> None:
    """Warn of each interval of the fit that is about to begin which the whole run does not come to.

    Args:
        trainer: The Trainer.
        run: The run of the fit.
        began_at_step: The updates of earlier fits of the Trainer.
    """
    # Loaders that are made anew may have more. A run that only tries everything does each once.
    data = trainer.arguments.data
    if data.fast_dev_run or data.reload_dataloaders_every_n_epochs or not run.strategy.is_global_zero:
        return
    uses = (*_validation(run, data), *_rows(trainer), *_saves(trainer), *_schedules(run))
    ends = _ends(trainer, run, began_at_step) if uses else {}
    for use in uses:
        end = ends[use.every.unit]
        # Where nothing is left to train, that is told elsewhere.
        if use.every.size > end and ends["steps"] > run.progress.global_step:
            warn(f"{use.said} is never reached, as the run ends after {end:,.0f} {use.every.unit}: {use.never}.")


def _ends(trainer: Trainer, run: FitRun, began_at_step: int) -> Mapping[Unit, float]:
    """Return how many of each unit the run has behind it at its end, at most; infinite where nobody knows."""
    in_epoch, progress, limits = trainer.num_training_batches, run.progress, run.limits
    steps = trainer.estimated_stepping_batches + began_at_step
    # The callback gives the run its schedule when the fit begins.
    accumulation = schedule_of(trainer.callbacks, run.accumulation.schedule)
    batches = (steps - progress.global_step) * max(accumulation.values())
    if math.isfinite(in_epoch):
        batches = min(batches, max(0, limits.max_epochs - progress.epoch) * in_epoch - progress.batch)
    epochs = limits.max_epochs
    if math.isfinite(batches) and math.isfinite(in_epoch) and in_epoch:
        epochs = progress.epoch + (progress.batch + batches) // in_epoch
    samples = _batch_size(trainer.train_dataloader) * run.strategy.data_world_size
    return {
        "steps": steps,
        "batches": progress.total_batches + batches,
        "samples": progress.samples + batches * samples,
        "epochs": epochs,
        "seconds": limits.max_time_s,
    }


def _batch_size(loader: Any) -> float:
    """Return how many samples a batch has, at most; infinite where that is the affair of code of the user's."""
    if type(loader) is TensorLoader:
        return loader.batch_size
    if isinstance(loader, DataLoader) and loader.collate_fn is default_collate:
        return loader.batch_sampler.batch_size if type(loader.batch_sampler) is BatchSampler else math.inf
    return math.inf


def _validation(run: FitRun, data: DataArguments) -> Iterator[_Use]:
    if not run.limits.validate:
        return
    interval, epochs = data.val_check_interval, data.check_val_every_n_epoch
    if data.validate_every is not None:
        # At the end of max_time it validates.
        if data.validate_every.unit == "seconds":
            return
        yield _Use(f"val_check_interval={interval!r}", data.validate_every, _NO_VALIDATION)
    elif epochs is not None:
        if epochs == 1:  # not said by anybody: a fit that is meant to end within its first epoch
            return
        yield _Use(f"check_val_every_n_epoch={epochs}", Interval(epochs, "epochs"), _NO_VALIDATION)
    elif isinstance(interval, int):
        yield _Use(f"val_check_interval={interval}", Interval(interval, "batches"), _NO_VALIDATION)


def _rows(trainer: Trainer) -> Iterator[_Use]:
    output = trainer.arguments.output
    # A number may be the default; where it leaves out something, that is told at the end.
    if isinstance(output.log_every_n_steps, str) and output.log_every is not None and trainer.loggers:
        never = "what training logs per step is in no row"
        yield _Use(f"log_every_n_steps={output.log_every_n_steps!r}", output.log_every, never)


def _saves(trainer: Trainer) -> Iterator[_Use]:
    for callback in trainer.checkpoint_callbacks:
        if callback.every is not None:
            said = f"the interval of {type(callback).__name__} ({callback.every})"
            yield _Use(said, callback.every, "it saves nothing")


def _schedules(run: FitRun) -> Iterator[_Use]:
    for config in run.schedulers if run.module.automatic_optimization else ():
        every = config.counts()
        if every is not None:
            yield _Use(f"every={config.every!r} of {type(config.scheduler).__name__}", every, "it never steps")
