"""The built-in plugin that tells where a fit runs when it begins, and what came of it when it has ended."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress
from time import monotonic
from typing import TYPE_CHECKING

import torch

from trainkit.callbacks.builtin.fit_figures import Figures
from trainkit.callbacks.builtin.forecast import FirstBatches, Forecast
from trainkit.callbacks.builtin.why_ended import Ending, why_ended, why_interrupted
from trainkit.callbacks.progress_bar.bar import epoch_label
from trainkit.checkpoint.head import read_head
from trainkit.hooks.callback import Callback
from trainkit.hooks.specs import hookimpl
from trainkit.loggers.dummy import DummyLogger
from trainkit.loggers.logger import loggers_of
from trainkit.output import say
from trainkit.printable import printable
from trainkit.storage.files import checkpoint_exists
from trainkit.types import Stage

if TYPE_CHECKING:
    from trainkit.module import TrainModule
    from trainkit.trainer import Trainer


class FitReport(Callback):
    """Prints one line when a fit begins, and a few when it has ended, beside the progress bar and on rank 0 alone.

    It looks at clocks and counters when epochs and validations begin and end, never at a step.

    Attributes:
        command: The command that lets the run go on, if it was started by one.
        tells: Whether the newest fit has told, or will tell at its end, how it goes on.
    """

    def __init__(self) -> None:
        self.command = ""
        self.tells = False
        self._tells = False
        self._has_begun = False
        self._figures: Figures | None = None  # until training begins
        self._interruption: Ending | None = None
        self._forecast: Forecast | None = None
        self._first_batches: FirstBatches | None = None

    @hookimpl(tryfirst=True)
    def setup(self, trainer: Trainer, module: TrainModule, stage: Stage) -> None:
        bar = trainer.progress_bar_callback
        is_shown = bar is not None and bar.refresh_rate > 0
        self._tells = stage is Stage.FIT and is_shown and trainer.is_global_zero
        self._figures = self._interruption = None
        self.tells = self._has_begun = False
        if self._tells:
            say(f"trainkit: {printable(type(module).__name__)} on {place_of(trainer)}")

    def on_fit_start(self) -> None:
        self._has_begun = True

    def on_train_start(self, trainer: Trainer) -> None:
        self.tells = self._tells
        # An epoch that is resumed has begun before, and is not begun again.
        self._figures = Figures(monotonic(), trainer.progress.batch, trainer.global_step)
        if self._tells:
            self._forecast = Forecast(trainer, self._figures, say)
            # A plugin of its own, which leaves when it has seen enough: this one is never called at a step.
            self._first_batches = FirstBatches(self._forecast)
            trainer.hooks.register(self._first_batches)

    def on_train_epoch_start(self) -> None:
        if self._figures is not None:
            self._figures.counted_until = 0
        if self._forecast is not None:
            self._forecast.epoch_starts()

    def on_train_epoch_end(self, trainer: Trainer) -> None:
        if self._figures is not None:
            self._figures.count(trainer)

    def on_validation_start(self) -> None:
        if self._figures is not None:
            self._figures.validates_since = monotonic()

    def on_validation_end(self) -> None:
        if self._figures is not None:
            self._figures.end_validation(monotonic())

    def on_exception(self, trainer: Trainer, exception: BaseException) -> None:
        # In words: the exception holds the frames it came through, and with them the batch and its activations.
        if self._has_begun:
            self._interruption = why_interrupted(trainer, exception)

    @hookimpl(trylast=True)  # when the bar is closed, and all files are written
    def teardown(self, trainer: Trainer) -> None:
        figures, self._figures = self._figures, None
        forecast, self._forecast = self._forecast, None
        if self._first_batches is not None and trainer.hooks.is_registered(self._first_batches):
            trainer.hooks.unregister(self._first_batches)
        if figures is not None and self._tells:
            # After an exception the running epoch has not been counted.
            figures.count(trainer)
            figures.end_validation(monotonic())
            ending = self._interruption or why_ended(trainer)
            # A fit that was ended by somebody is over sooner than it was to be.
            is_whole = self._interruption is None and not trainer.fit_run.stop_signal.asked
            outcome = forecast.outcome() if forecast is not None and is_whole else ""
            say("\n".join(_lines(trainer, ending, figures, self.command, outcome)))
        elif self._interruption is not None and self._tells:
            say(f"trainkit: the fit has ended before training: {self._interruption.reason}")
        # A call that fails ahead of its `setup` comes here too, and is not to tell of this one.
        self._interruption, self._has_begun = None, False


def report_of(trainer: Trainer) -> FitReport | None:
    """Return the plugin that tells how the fits of ``trainer`` end, if it is there."""
    return next((plugin for _, plugin in trainer.hooks.plugins if isinstance(plugin, FitReport)), None)


def _lines(trainer: Trainer, ending: Ending, figures: Figures, command: str, outcome: str) -> Iterator[str]:
    yield f"trainkit: training has ended: {ending.reason}"
    yield f"  done      {_done(trainer, figures.first_step)}; {figures.text(monotonic())}"
    if outcome:
        yield f"  foretold  {outcome}"
    for best in _best(trainer):
        yield f"  best      {best}"
    for folder in _folders(trainer):
        yield f"  files     {folder}"
    keeper = trainer.last_checkpoint
    if keeper is not None and keeper.path and checkpoint_exists(keeper.path):
        # Alone on its line, from which it is copied.
        call = command or 'fit(..., ckpt_path="last")'
        yield f"  continue  {call}"
        changed = f"with {ending.to_go_on}, " if ending.to_go_on else ""
        yield f"            {changed}from {_short(keeper.path)}"


def place_of(trainer: Trainer) -> str:
    """Return where a run computes, in words: devices, precision, strategy and processes."""
    strategy = trainer.strategy
    # Each once: ranks on the CPU all have the same.
    devices = ", ".join(dict.fromkeys(map(str, strategy.devices or [strategy.device])))
    if strategy.device.type == "cuda":
        devices += f" ({torch.cuda.get_device_name(strategy.device)})"
    ranks = f", {strategy.world_size} processes" if strategy.world_size > 1 else ""
    return f"{devices}, precision {trainer.precision}, strategy {strategy.name}{ranks}"


def _done(trainer: Trainer, first_step: int) -> str:
    progress = trainer.progress
    text = _counted(progress.epoch, "epoch")
    if progress.batch:
        text += f" and {_counted(progress.batch, 'batch', 'es')} of the next"
    # Time and speed, which stand beside it, are those of this process alone.
    here = f", {progress.global_step - first_step} of them now" if first_step else ""
    return f"{text}, {_counted(progress.global_step, 'step')}{here}"


def _counted(number: int, what: str, plural: str = "s") -> str:
    return f"{number} {what}" if number == 1 else f"{number} {what}{plural}"


def _best(trainer: Trainer) -> Iterator[str]:
    """Yield the best value of each metric that is monitored, with its epoch and file."""
    told = set()
    for saver in trainer.checkpoint_callbacks:
        if saver.monitor is not None and saver.best_model_score is not None:
            told.add(saver.monitor)
            epoch = read_head(saver.best_model_path).epoch
            when = "" if epoch is None else f" in {_name(trainer, epoch)}"
            score = f"{printable(saver.monitor)} {saver.best_model_score.item():.6g}"
            yield f"{score}{when}: {_short(saver.best_model_path)}"
    for stopper in trainer.early_stopping_callbacks:
        if stopper.monitor not in told and stopper.best_epoch is not None:
            told.add(stopper.monitor)
            score = f"{printable(stopper.monitor)} {stopper.best_score.item():.6g}"
            yield f"{score} in {_name(trainer, stopper.best_epoch)}"


def _name(trainer: Trainer, epoch: int) -> str:
    """Return ``epoch`` as the bar names it, which counts from 1, and as names of files do."""
    return f"{epoch_label(epoch, trainer.max_epochs)} (epoch={epoch})"


def _folders(trainer: Trainer) -> list[str]:
    """Return where curves and checkpoints are, each folder once, and none that is in another one."""
    loggers = [logger for logger in loggers_of(trainer) if logger.writes and not isinstance(logger, DummyLogger)]
    savers = [saver for saver in trainer.checkpoint_callbacks if saver.best_model_path or saver.last_model_path]
    folders = [logger.log_dir for logger in loggers if os.path.isdir(logger.log_dir)]
    folders += [saver.dirpath for saver in savers if saver.dirpath]
    folders = list(dict.fromkeys(map(_short, folders)))
    return [each for each in folders if not any(each.startswith(os.path.join(other, "")) for other in folders)]


def _short(path: str) -> str:
    """Return ``path`` as seen from the working folder, if it is within that."""
    with suppress(OSError, ValueError):  # the working folder may be gone, or on another drive
        relative = os.path.relpath(os.path.realpath(path))
        if "://" not in path and not relative.startswith(os.pardir):
            path = relative
    return printable(path)
