"""The arguments of a Trainer as its properties, under the names of the arguments; how long to train may be set."""

from __future__ import annotations

import dataclasses
import math

from trainkit.checks import Duration
from trainkit.trainer.arguments import StopArguments, TrainerArguments
from trainkit.trainer.run_length import max_epochs, max_steps
from trainkit.trainer.run_properties import RunProperties


class ArgumentProperties(RunProperties):
    """The properties of a `Trainer` that are its arguments, as they came out of ``arguments.py``.

    Attributes:
        arguments: What the Trainer was made with.
    """

    arguments: TrainerArguments

    @property
    def max_epochs(self) -> int:
        """Epochs to train; -1 for no limit. May be set, to train on or to end earlier."""
        epochs = max_epochs(self.arguments.stop, self.arguments.data)
        return -1 if epochs == math.inf else int(epochs)

    @max_epochs.setter
    def max_epochs(self, epochs: int) -> None:
        self._stop_at(dataclasses.replace(self.arguments.stop, max_epochs=epochs))

    @property
    def min_epochs(self) -> int | None:
        """Epochs before which ``should_stop`` is not honoured."""
        return self.arguments.stop.min_epochs

    @property
    def max_steps(self) -> int:
        """Updates to make; -1 for no limit. May be set, to train on or to end earlier."""
        steps = max_steps(self.arguments.stop, self.arguments.data)
        return -1 if steps == math.inf else int(steps)

    @max_steps.setter
    def max_steps(self, steps: int) -> None:
        self._stop_at(dataclasses.replace(self.arguments.stop, max_steps=steps))

    @property
    def min_steps(self) -> int | None:
        """Updates before which ``should_stop`` is not honoured."""
        return self.arguments.stop.min_steps

    @property
    def fast_dev_run(self) -> int | bool:
        """Whether, or with how many batches, everything is only tried."""
        return self.arguments.data.fast_dev_run

    @property
    def log_every_n_steps(self) -> int | str:
        """Updates from one row of metrics to the next; the text that was given, if it has another unit."""
        every = self.arguments.output.log_every
        return int(every.size) if every and every.unit == "steps" else self.arguments.output.log_every_n_steps

    @property
    def barebones(self) -> bool:
        """Whether everything optional is left out."""
        return self.arguments.output.barebones

    @property
    def accumulate_grad_batches(self) -> int:
        """Batches per update in the running epoch."""
        schedule = self.arguments.optimization.accumulation
        return self.fit_run.accumulation.size if self._is_fit else schedule[0]

    @property
    def gradient_clip_val(self) -> float | None:
        """Bound for gradients."""
        return self.arguments.optimization.gradient_clip_val

    @property
    def gradient_clip_algorithm(self) -> str | None:
        """How gradients are bounded."""
        return self.arguments.optimization.gradient_clip_algorithm

    @property
    def check_val_every_n_epoch(self) -> int | None:
        """Epochs from one epoch with validation to the next."""
        return self.arguments.data.check_val_every_n_epoch

    @property
    def reload_dataloaders_every_n_epochs(self) -> int:
        """Epochs after which loaders are made anew; 0 for never."""
        return self.arguments.data.reload_dataloaders_every_n_epochs

    @property
    def val_check_interval(self) -> int | float | Duration:
        """From one validation to the next: batches (int), share of an epoch (float), a text with a unit, or a time."""
        return self.arguments.data.val_check_interval

    @property
    def overfit_batches(self) -> int | float:
        """How many, or which share, of the same batches are trained on over and over."""
        return self.arguments.data.overfit_batches

    @property
    def limit_train_batches(self) -> int | float:
        """How many training batches of an epoch are used (int), or which share of them (float)."""
        return self.arguments.data.limit("train")

    @property
    def limit_val_batches(self) -> int | float:
        """The same for validation."""
        return self.arguments.data.limit("val")

    @property
    def limit_test_batches(self) -> int | float:
        """The same for testing."""
        return self.arguments.data.limit("test")

    @property
    def limit_predict_batches(self) -> int | float:
        """The same for prediction."""
        return self.arguments.data.limit("predict")

    def follow_limits(self) -> None:
        """Let the running fit go by the limits as they are now."""
        limits, stop, data = self.fit_run.limits, self.arguments.stop, self.arguments.data
        limits.max_epochs, limits.max_steps = max_epochs(stop, data), max_steps(stop, data)
        limits.min_epochs, limits.min_steps = stop.min_epochs or 0, stop.min_steps or 0
        self.fit_run.check_after_batch()

    def _stop_at(self, stop: StopArguments) -> None:
        self.arguments = dataclasses.replace(self.arguments, stop=stop)
        if self._is_fit and self.state.status == "running":
            self.follow_limits()
