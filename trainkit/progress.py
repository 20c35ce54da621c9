"""The counters of a run, and so the point from which it continues."""

from __future__ import annotations

import dataclasses
import time
from dataclasses import dataclass


@dataclass(slots=True)
class Progress:
    """How far a run has come.

    Batches and updates are counted before the hook that reports them, an epoch after its last hook; resuming sets
    them, and nothing is guessed from them.

    Attributes:
        epoch: Completed epochs, and so the index of the running one.
        batch: Batches finished in the running epoch, and so the index of the next one.
        is_last: Whether the batch that was finished last was the last of its epoch.
        epoch_started: Whether the hooks of the running epoch's start have been called.
        epoch_ended: Whether all batches and validations of the running epoch are done; only its end hooks are to come.
        epoch_left: Whether training has stopped within the epoch, and its end hooks were called all the same.
        validation_started: Whether a validation has begun: its start hooks may be called.
        validation_ending: Whether the batches of a validation are done, and ``on_validation_end`` is still to come.
        validated_batch: ``batch`` at the last complete validation of the running epoch; -1 if there was none.
        validation_loader: The index of the loader that a running validation has reached.
        validation_batch: Batches of that loader that are finished.
        global_step: Optimizer updates in the whole run.
        total_batches: Training batches finished in the whole run.
        samples: Samples in these batches, on all ranks; 0 where nobody has asked for their number.
        validated_at_step: ``global_step`` at the last complete validation of the run, from which the next one is due if
            that goes by steps; 0 if there was none.
        validated_at_batches: ``total_batches`` then.
        validated_at_samples: ``samples`` then.
        validated_at_epochs: ``epochs_done`` then.
        micro_batch_size: Samples of a batch that are computed at a time, after memory ran out with more; 0 is all.
        ended: Whether training has come to an end, and ``on_train_end`` is being called, or was.
    """

    epoch: int = 0
    batch: int = 0
    is_last: bool = False
    epoch_started: bool = False
    epoch_ended: bool = False
    epoch_left: bool = False
    validation_started: bool = False
    validation_ending: bool = False
    validated_batch: int = -1
    validation_loader: int = 0
    validation_batch: int = 0
    global_step: int = 0
    total_batches: int = 0
    samples: int = 0
    validated_at_step: int = 0
    validated_at_batches: int = 0
    validated_at_samples: int = 0
    validated_at_epochs: int = 0
    micro_batch_size: int = 0
    ended: bool = False
    # Checkpoints have `elapsed_s` instead: a moment of the monotonic clock means nothing in another process.
    _counted_s: float = 0.0
    _clock_started_at: float | None = None  # None while the clock stands still

    @property
    def elapsed_s(self) -> float:
        """Seconds spent in fits so far, those before a resume included."""
        running_s = 0.0 if self._clock_started_at is None else time.monotonic() - self._clock_started_at
        return self._counted_s + running_s

    def start_clock(self) -> None:
        """Let `elapsed_s` run."""
        self.stop_clock()  # it may be running: what it has counted is kept
        self._clock_started_at = time.monotonic()

    def stop_clock(self) -> None:
        """Let `elapsed_s` stand still."""
        self._counted_s, self._clock_started_at = self.elapsed_s, None

    def count_batch(self, is_last: bool) -> None:
        """Count one finished training batch."""
        self.batch += 1
        self.total_batches += 1
        self.is_last = is_last

    def count_validation_batch(self, dataloader_idx: int) -> None:
        """Count one finished batch of a validation."""
        # The first batch of the next loader. A loader that gave no batch is passed over.
        if dataloader_idx != self.validation_loader:
            self.validation_loader, self.validation_batch = dataloader_idx, 0
        self.validation_batch += 1

    def count_validation(self) -> None:
        """Count a complete validation."""
        # The batch, not a flag: it tells that the validation due at this batch is done, so that a run that continues
        # here does not repeat it.
        self.validated_batch = self.batch
        self.validation_loader = self.validation_batch = 0
        self.validation_started, self.validation_ending = False, True
        self.mark_validation()

    def mark_validation(self) -> None:
        """Count from here to the next validation, where that goes by steps, batches, samples or epochs."""
        self.validated_at_step, self.validated_at_batches = self.global_step, self.total_batches
        self.validated_at_samples, self.validated_at_epochs = self.samples, self.epochs_done

    def drop_unfinished(self) -> None:
        """Set back what a fit left unfinished: a validation, and an epoch of which batches are to come."""
        # An epoch whose last batch is done keeps its counters: its end is made up for.
        if not self.is_last:
            self._begin_epoch()
            self.mark_validation()  # of what an earlier fit has passed nothing is due, as it is with saves and rows
        self.validation_started = self.validation_ending = False
        self.validated_batch = -1  # its results are gone, and plugins may ask for them, so it runs again
        self.validation_loader = self.validation_batch = 0

    @property
    def in_validation(self) -> bool:
        """Whether a validation has begun and is not complete."""
        return self.validation_started or self.has_validated

    @property
    def has_validated(self) -> bool:
        """Whether a batch of a validation that is not complete is done."""
        return self.validation_loader > 0 or self.validation_batch > 0

    @property
    def epochs_done(self) -> int:
        """Epochs of which the last batch is done, or that have ended ahead of it."""
        return self.epoch + (self.is_last or self.epoch_ended)

    @property
    def in_epoch(self) -> bool:
        """Whether an epoch has begun, and its batches are not done."""
        return (self.batch > 0 or self.epoch_started) and not self.epoch_ended

    @property
    def position(self) -> tuple[int, ...]:
        """How far the run is, as numbers that only grow from one moment of a run to a later one."""
        return (
            self.total_batches,
            self.epoch,
            self.epoch_started,
            self.validated_batch,
            self.validation_started,
            self.validation_loader,
            self.validation_batch,
            not self.validation_ending,
            self.epoch_ended,
            self.epoch_left,
            self.global_step,
            self.ended,
        )

    @property
    def is_closing(self) -> bool:
        """Whether what follows a batch has begun and is not complete: a validation, or the end of an epoch."""
        return self.in_validation or (self.is_last and not self.epoch_ended)

    @property
    def is_open(self) -> bool:
        """Whether something of an epoch is to come, be it only its validation, or the hooks of its end."""
        return self.in_validation or (self.in_epoch and not self.epoch_left)

    def count_update(self) -> None:
        """Count one optimizer update."""
        self.global_step += 1

    def count_epoch(self) -> None:
        """Count one finished epoch; the next one starts at batch 0."""
        self.epoch += 1
        self._begin_epoch()

    def _begin_epoch(self) -> None:
        self.batch = 0
        self.is_last = False
        self.epoch_started = False
        self.epoch_ended = False
        self.epoch_left = False
        self.validated_batch = -1

    def state_dict(self) -> dict[str, int | float]:
        """Return all counters by name."""
        return {**{name: getattr(self, name) for name in COUNTERS}, "elapsed_s": self.elapsed_s}

    def load_state_dict(self, state: dict[str, int | float]) -> None:
        """Set the counters that are in ``state``; the others keep their values, as older checkpoints have fewer."""
        for name in COUNTERS:
            if name in state:
                setattr(self, name, state[name])
        self._counted_s = state.get("elapsed_s", self._counted_s)
        if "validated_at_step" not in state:
            # Older checkpoints do not tell: without this all that was ever due would be due now.
            self.mark_validation()


COUNTERS = tuple(field.name for field in dataclasses.fields(Progress) if not field.name.startswith("_"))
"""The names of the counters, which are their keys in a checkpoint."""
