"""The progress bar callback: it follows the run, and decides when to refresh the display."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from time import monotonic
from typing import TYPE_CHECKING

from trainkit.callbacks.progress_bar.async_values import AsyncValues
from trainkit.callbacks.progress_bar.bar import Bar, epoch_label
from trainkit.callbacks.progress_bar.choose import open_display
from trainkit.callbacks.progress_bar.display import Display
from trainkit.callbacks.rates import shown_rates
from trainkit.checks import flags, takes_numpy, whole
from trainkit.hooks.callback import Callback
from trainkit.hooks.specs import hookimpl
from trainkit.loops.ahead import Ahead
from trainkit.output import printing
from trainkit.types import Stage

if TYPE_CHECKING:
    from torch import Tensor

    from trainkit.trainer import Trainer

REFRESH_S = 0.1
"""Least time between two refreshes."""

MAX_TIME_SHARE = 0.01
"""The largest share of the run's time that refreshes may take."""


class ProgressBar(Callback):
    """Shows epoch, batches, speed, the metrics logged with ``prog_bar=True``, and learning rates that schedules set.

    Bars are drawn in a terminal and in a notebook. Other output gets a line for each epoch, and more lines only if the
    epoch is long. There are at most ten refreshes a second, and fewer where these would take more than a hundredth of
    the time. No refresh waits for the device, so the values shown may be those of the refresh before.

    Args:
        refresh_rate: Check after every n-th batch whether a refresh is due; 0 shows nothing at all.
        leave: Whether the bar of each epoch stays when the next one begins.
        show_lr: Whether to show learning rates in a fit with schedulers: ``lr``, or if they differ one for each group
            of parameters by its ``name``, such as ``lr/decay``, or for each optimizer, such as ``lr/Muon``. Of more
            than three the lowest and the highest are shown.

    Raises:
        ConfigError: If ``refresh_rate`` is not usable.
    """

    @takes_numpy
    def __init__(self, refresh_rate: int = 1, leave: bool = False, *, show_lr: bool = True) -> None:
        whole("refresh_rate", refresh_rate)
        flags("ProgressBar", leave=leave, show_lr=show_lr)
        self.refresh_rate = refresh_rate
        self.leave = leave
        self.show_lr = show_lr
        self._display: Display | None = None
        self._bars: list[Bar] = []
        self._evaluated = 0  # batches of the running evaluation, over all its loaders
        self._has_bar_of_evaluation = False
        self._values = AsyncValues()
        self._finished: Bar | None = None  # the newest whose final state the display has
        self._earlier: dict[str, int | None] = {}  # the numbers of values that were there when the epoch began
        self._due = math.inf  # the time of the next refresh; infinite where nothing is shown, as on other ranks

    def shown_metrics(self, trainer: Trainer) -> Mapping[str, Tensor | float]:
        """Return the metrics to show beside the bar, and the learning rates; a subclass may choose others."""
        shown, configs = trainer.progress_bar_metrics, trainer.lr_scheduler_configs
        if not (self.show_lr and configs):
            return shown
        # Behind the last batch of an epoch or of the fit those of its update: the next ones may never be used.
        rates = shown_rates(trainer.optimizers, configs, trainer.fit_run.used_rates if trainer.progress.batch else None)
        # What the user has logged under such a name is what the user wants to see there.
        return {**shown, **{name: rate for name, rate in rates.items() if name not in shown}}

    def setup(self, trainer: Trainer) -> None:
        self._bars, self._values, self._earlier = [], AsyncValues(), {}
        # Here and not in __init__: what stdout is may change between two runs of one Trainer.
        if self.refresh_rate and trainer.is_global_zero:
            self._display = open_display(self.leave)
            self._due = -math.inf

    def on_exception(self, trainer: Trainer) -> None:
        # What stays is how far it has come, and not where it was at the last refresh.
        if self._bars and self._bars[-1] is not self._finished:
            in_epoch = trainer.state.fn == Stage.FIT and not self._has_bar_of_evaluation
            self._update(trainer.progress.batch if in_epoch else self._evaluated)
            if any(bar.done for bar in self._bars):
                self._finish(trainer)

    def teardown(self) -> None:
        # Also after an exception: a terminal has to get its cursor and its stdout back.
        display, self._display = self._display, None
        self._due = math.inf
        if display is not None:
            with printing():
                display.close()

    def on_log(self, metrics: dict[str, float]) -> None:
        self._values.update(metrics)  # read from the device already, for the loggers

    # Training

    def on_train_start(self, trainer: Trainer) -> None:
        # An epoch that is resumed has begun before, and is not begun again.
        if trainer.progress.batch:
            self._begin_epoch(trainer)

    def on_train_epoch_start(self, trainer: Trainer) -> None:
        self._begin_epoch(trainer)

    def _begin_epoch(self, trainer: Trainer) -> None:
        done, label = trainer.progress.batch, epoch_label(trainer.current_epoch, trainer.max_epochs)
        self._earlier = {name: trainer.metrics.version_of_epoch(name) for name in self.shown_metrics(trainer)}
        self._bars = [Bar(label, _batches_of_epoch(trainer), done=done, now=monotonic())]
        self._refresh_if_due(trainer)

    def on_train_batch_end(self, trainer: Trainer, batch_idx: int) -> None:
        # Before anything else is looked at: this runs after every batch, and is false after most.
        if monotonic() >= self._due and (batch_idx + 1) % self.refresh_rate == 0:
            self._update(trainer.progress.batch)
            self._refresh(trainer)

    # After MetricRows has reduced and read the metrics of the epoch, which are to be in its last line.
    @hookimpl(trylast=True)
    def on_train_epoch_end(self, trainer: Trainer) -> None:
        self._update(trainer.progress.batch)
        self._finish(trainer)

    # Evaluation and prediction

    def on_validation_start(self, trainer: Trainer) -> None:
        if trainer.sanity_checking:
            self._begin(trainer, "Sanity check", trainer.num_sanity_val_batches)
        else:
            self._begin(trainer, "Validation", trainer.num_val_batches)

    def on_validation_batch_end(self, trainer: Trainer, batch_idx: int) -> None:
        self._count(trainer, batch_idx)

    @hookimpl(trylast=True)
    def on_validation_end(self, trainer: Trainer) -> None:
        self._end(trainer)

    def on_test_start(self, trainer: Trainer) -> None:
        self._begin(trainer, "Test", trainer.num_test_batches)

    def on_test_batch_end(self, trainer: Trainer, batch_idx: int) -> None:
        self._count(trainer, batch_idx)

    @hookimpl(trylast=True)
    def on_test_end(self, trainer: Trainer) -> None:
        self._end(trainer)

    def on_predict_start(self, trainer: Trainer) -> None:
        self._begin(trainer, "Prediction", trainer.num_predict_batches)

    def on_predict_batch_end(self, trainer: Trainer, batch_idx: int) -> None:
        self._count(trainer, batch_idx)

    @hookimpl(trylast=True)
    def on_predict_end(self, trainer: Trainer) -> None:
        self._end(trainer)

    def _begin(self, trainer: Trainer, label: str, num_batches: Iterable[float]) -> None:
        # A validation within an epoch: the bar of the epoch stays above, and shows how far it is.
        self._update(trainer.progress.batch)
        self._evaluated, self._has_bar_of_evaluation = 0, True
        self._bars.append(Bar(label, _total(num_batches), now=monotonic()))
        self._refresh_if_due(trainer)

    def _count(self, trainer: Trainer, batch_idx: int) -> None:
        self._evaluated += 1
        if monotonic() >= self._due and (batch_idx + 1) % self.refresh_rate == 0:
            self._update(self._evaluated)
            self._refresh(trainer)

    def _end(self, trainer: Trainer) -> None:
        self._update(self._evaluated)
        if trainer.state.fn != Stage.FIT:
            self._finish(trainer)
            return
        # There is none if the run goes on behind the batches of this validation.
        if self._has_bar_of_evaluation:
            self._has_bar_of_evaluation = False
            del self._bars[-1:]
        # The epoch's rate and time are those of training alone.
        for bar in self._bars:
            bar.resume(monotonic())

    # Drawing

    def _update(self, done: int) -> None:
        if self._bars:  # there is none if the callback was registered in mid-run
            self._bars[-1].update(done, monotonic())

    def _refresh_if_due(self, trainer: Trainer) -> None:
        if monotonic() >= self._due:
            self._refresh(trainer)

    def _refresh(self, trainer: Trainer) -> None:
        started = monotonic()
        values = self._values.poll(self.shown_metrics(trainer))
        with self._drawing() as display:
            display.show(self._bars, values)
        ended = monotonic()
        # A refresh that took 5 ms is followed by 500 ms without one: a slow terminal must not slow down training.
        if self._display is not None:
            self._due = ended + max(REFRESH_S, (ended - started) / MAX_TIME_SHARE)

    def _finish(self, trainer: Trainer) -> None:
        if self._display is not None and self._bars:
            values = self._values.poll(self.shown_metrics(trainer))
            # A line that remains has no values of earlier epochs, such as those of a validation that was not due.
            values = {name: value for name, value in values.items() if not self._is_earlier(trainer, name)}
            self._finished = self._bars[-1]
            with self._drawing() as display:
                display.finish(self._bars, values)

    def _is_earlier(self, trainer: Trainer, name: str) -> bool:
        version = self._earlier.get(name)
        return version is not None and version == trainer.metrics.version_of_epoch(name)

    @contextmanager
    def _drawing(self) -> Iterator[Display]:
        """Yield the display. Once stdout cannot be written to, that is told, and nothing is drawn any more."""
        assert self._display is not None
        with printing():
            try:
                yield self._display
            except (OSError, ValueError):
                # A terminal gets its cursor and its stdout back, as far as that is still possible.
                display, self._display, self._due = self._display, None, math.inf
                with suppress(OSError, ValueError):
                    display.close()
                raise


def _batches_of_epoch(trainer: Trainer) -> int | None:
    """Return how many batches the running epoch has until training ends, if that is sooner; None if nobody knows."""
    ahead = Ahead.of(trainer.fit_run, trainer.num_training_batches)
    # With manual optimization nobody knows which batches make updates.
    if trainer.fit_run.module.automatic_optimization and not math.isinf(ahead.max_steps):
        epoch = next(ahead.epochs(math.inf), None)
        if epoch is not None and epoch.index == ahead.epoch:
            return epoch.closed_by(epoch.updates)
    return ahead.num_batches


def _total(num_batches: Iterable[float]) -> int | None:
    total = sum(num_batches)
    return None if math.isinf(total) else int(total)
