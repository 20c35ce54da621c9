"""Saving checkpoints during a fit: the save points, the files, and what is deleted."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterable
from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar, Literal, NamedTuple

import torch

from trainkit.callbacks.model_checkpoint.names import check_template, fill_template, free_path
from trainkit.callbacks.model_checkpoint.ranking import KeptCheckpoints
from trainkit.callbacks.model_checkpoint.triggers import SaveTriggers
from trainkit.callbacks.monitor import Mode, missing_metric, missing_metric_error
from trainkit.checkpoint.background import BackgroundJob, snapshot
from trainkit.errors import ConfigError
from trainkit.hooks.manager import PluginStage
from trainkit.storage.files import check_folder, copy_checkpoint, link_checkpoint, remove_checkpoint, write_checkpoint
from trainkit.storage.remote import is_remote
from trainkit.storage.storable import check_storable
from trainkit.types import Stage

if TYPE_CHECKING:
    from trainkit.trainer import Trainer

WHERE = "ModelCheckpoint"


class ModelCheckpoint(KeptCheckpoints):
    """Saves checkpoints, and keeps the best, the newest or all of them.

    There is a save point after every validation and at the end of every epoch; that of a validation after the epoch's
    last batch is at the end of the epoch, when schedulers and metrics are done. ``every_n_train_steps`` and
    ``train_time_interval`` take the place of these. A save that falls due within an accumulation group waits for its
    update, and one that falls due right before a validation waits for that. Nothing is saved twice at one
    ``global_step``. A new file is whole and on the disk before an old one is deleted.

    Args:
        dirpath: The folder, or a URL that fsspec knows. By default ``checkpoints`` in the folder of the logger, or in
            ``default_root_dir``.
        filename: A template such as ``{epoch}-{val/loss:.2f}``; a name that is taken gains ``-v1``. By default
            ``{epoch}-{step}``, which gives ``epoch=0-step=5.ckpt``.
        monitor: The metric by which checkpoints are ranked. Without one the newest is kept.
        verbose: Whether to print what is saved.
        save_last: Whether to write ``last.ckpt`` at every save point; "link" makes it a link to the newest file.
        save_top_k: How many to keep: the best ones by ``monitor``; -1 all, 0 none.
        save_weights_only: Whether to leave out what only a continued fit needs.
        mode: Whether a lower ("min") or a higher ("max") value of ``monitor`` is better. NaN is worst.
        auto_insert_metric_name: Whether names stand before their values in file names, as in ``epoch=0``.
        every_n_train_steps: Save after every n-th update instead.
        train_time_interval: Save after this time instead, as soon as the running update is made.
        every_n_epochs: Use the save points of every n-th epoch only. ``save_last`` uses them all.
        save_on_train_epoch_end: True uses only the save points at ends of epochs, False only those after validations.
        enable_version_counter: Whether a name that is taken gains a version; otherwise its file is overwritten.
        async_save: Whether training goes on while a copy of the state is written. The next save, and the end of the
            fit, wait for it, and raise what went wrong.

    Attributes:
        best_model_path: The best checkpoint, or without ``monitor`` the newest; more in `KeptCheckpoints`.

    Raises:
        ConfigError: If an argument is not usable, or contradicts another.
        CheckpointWriteError: When a fit starts, if ``dirpath`` is not writable; later, if a file cannot be written.
        MetricError: At the end of an epoch, if ``monitor`` has not been logged.
    """

    stage: ClassVar[PluginStage] = "persist"

    CHECKPOINT_JOIN_CHAR = "-"
    CHECKPOINT_EQUALS_CHAR = "="
    CHECKPOINT_NAME_LAST = "last"
    FILE_EXTENSION = ".ckpt"
    STARTING_VERSION = 1

    def __init__(
        self,
        dirpath: str | os.PathLike[str] | None = None,
        filename: str | None = None,
        monitor: str | None = None,
        verbose: bool = False,
        save_last: bool | Literal["link"] | None = None,
        save_top_k: int = 1,
        save_weights_only: bool = False,
        mode: Mode = "min",
        *,
        auto_insert_metric_name: bool = True,
        every_n_train_steps: int | None = None,
        train_time_interval: timedelta | None = None,
        every_n_epochs: int | None = None,
        save_on_train_epoch_end: bool | None = None,
        enable_version_counter: bool = True,
        async_save: bool = False,
    ) -> None:
        super().__init__(None if dirpath is None else _folder(dirpath), monitor, mode, save_top_k)
        if filename is not None:
            check_template(filename, WHERE)
        if save_last not in (None, True, False, "link"):
            raise ConfigError(f"{WHERE}: save_last={save_last!r} must be True, False or 'link'.")
        self.filename = filename
        self.verbose = verbose
        self.save_last = save_last
        self.save_weights_only = save_weights_only
        self.auto_insert_metric_name = auto_insert_metric_name
        self.save_on_train_epoch_end = save_on_train_epoch_end
        self.enable_version_counter = enable_version_counter
        self.async_save = async_save
        self._chooses_dirpath = dirpath is None
        self._triggers = SaveTriggers(every_n_train_steps, train_time_interval, every_n_epochs, WHERE)
        self._background = BackgroundJob()
        self._before: dict[str, Any] = {}
        self._warned: set[str] = set()

    @property
    def state_key(self) -> str:
        return self._state_key(
            monitor=self.monitor,
            mode=self.mode,
            every_n_train_steps=self._triggers.every_n_train_steps,
            every_n_epochs=self._triggers.every_n_epochs,
            train_time_interval=self._triggers.train_time_interval,
        )

    def state_dict(self) -> dict[str, Any]:
        """Return which files there are, how good they are, and whether a save is due."""
        return {**super().state_dict(), "due": [self._triggers.is_due, self._triggers.is_due_for_top_k]}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        super().load_state_dict(state)
        self._triggers.is_due, self._triggers.is_due_for_top_k = state.get("due", (False, False))

    # The save points

    def setup(self, trainer: Trainer, stage: Stage) -> None:
        if stage != Stage.FIT:
            return
        if self._chooses_dirpath:
            folder = os.path.join(trainer.log_dir or trainer.default_root_dir, "checkpoints")
            self.dirpath = trainer.strategy.broadcast_object(os.path.realpath(folder))
        if (self.save_top_k or self.save_last) and not trainer.fast_dev_run:
            trainer.strategy.agreed(lambda: check_folder(self.dirpath or ""))

    def on_fit_start(self, trainer: Trainer) -> None:
        # The run that is continued may have been killed between writing and deleting.
        if trainer.is_global_zero:
            self._delete_obsolete()

    def on_train_start(self, trainer: Trainer) -> None:
        self._triggers.start(trainer.global_step, is_resumed=trainer.fit_run.is_resumed)

    def on_train_batch_end(self, trainer: Trainer) -> None:
        triggers = self._triggers
        if triggers.every_n_train_steps:
            triggers.note_update(trainer.global_step)
        elif triggers.train_time_interval and trainer.strategy.agreed(triggers.is_time):
            triggers.note_time()
        # What follows the epoch's last batch, or is about to be validated, is saved when that is done.
        if triggers.is_due and not trainer.is_last_batch and not trainer.fit_run.validation_due():
            self._save_if_due(trainer)

    def on_validation_end(self, trainer: Trainer) -> None:
        if trainer.state.fn != Stage.FIT or trainer.sanity_checking:
            return
        if self.save_on_train_epoch_end is False or not trainer.is_last_batch:
            if not self.save_on_train_epoch_end:
                self._triggers.note_epoch(trainer.current_epoch)
            self._save_if_due(trainer)

    def on_train_epoch_end(self, trainer: Trainer) -> None:
        self._refuse_missing_monitor(trainer)
        # An accumulation group that the epoch's early end cut short was updated after its last batch.
        self._triggers.note_update(trainer.global_step)
        # The save points of an epoch are its validations; one after its last batch is used here, when all is settled.
        validated = trainer.progress.validated_batch
        is_save_point = validated in (-1, trainer.progress.batch)
        if self.save_on_train_epoch_end or (self.save_on_train_epoch_end is None and is_save_point):
            self._triggers.note_epoch(trainer.current_epoch)
        self._save_if_due(trainer)

    def on_train_end(self, trainer: Trainer) -> None:
        if self.save_top_k != 0 and not self.best_model_path and trainer.global_step and not trainer.fast_dev_run:
            self._warn_missing_monitor(trainer, self._values(trainer))
        self._finish(trainer)

    def teardown(self, trainer: Trainer) -> None:
        self._finish(trainer)

    # The files

    def _save_if_due(self, trainer: Trainer) -> None:
        if not self._triggers.is_due or trainer.fit_run.accumulation.batches:
            return
        for_top_k = self._triggers.take()
        if trainer.fast_dev_run or trainer.global_step == self._saved_step:
            return
        self._finish(trainer)
        values, self._before = self._values(trainer), self.state_dict()
        try:
            plan = trainer.strategy.agreed(lambda: self._plan(trainer, values, for_top_k))
            # The file to be written holds this memory, so it is brought up to date first.
            self._remember(plan.memory)
            if path := plan.path or plan.last:
                write = self._write_beside if self.async_save else self._write
                trainer.save_checkpoint(path, self.save_weights_only, write=partial(write, plan))
        except BaseException:
            self._remember(self._before)
            raise

    def _finish(self, trainer: Trainer) -> None:
        """Wait for the save that runs beside training; raise on every rank if it failed."""
        if not self.async_save:
            return
        try:
            trainer.strategy.agreed(self._background.finish)
        except BaseException:
            self._remember(self._before)
            raise

    def _plan(self, trainer: Trainer, values: dict[str, Any], for_top_k: bool) -> _Plan:
        """Decide, on rank 0, what to write and what to delete, and remember it as if it were done."""
        path, last, said = None, None, ""
        displaced = [self.last_model_path]
        if for_top_k and self.save_top_k != 0 and self._is_wanted(trainer, values):
            leaving = self._make_room()
            path = self._free_path(trainer, values, self.filename, reuse=leaving)
            self._admit(path)
            displaced += leaving
        if self.save_last and (path or self.save_last != "link" or not self.best_model_path):
            last = self._free_path(trainer, values, self.CHECKPOINT_NAME_LAST, reuse=[self.last_model_path])
            self.last_model_path = last
        if path or last:
            self._saved_step = trainer.global_step
            self._obsolete = (self._obsolete | self._deletable(trainer, displaced)) - {path, last}
        if self.verbose:
            score = "" if self.current_score is None else f", {self.monitor} = {self.current_score.item():.6g}"
            said = f"epoch {trainer.current_epoch}, step {trainer.global_step}{score}: saved {path or last}"
        return _Plan(path, last, said, self.state_dict())

    def _is_wanted(self, trainer: Trainer, values: dict[str, Any]) -> bool:
        if self.monitor is None:
            return True
        if self.monitor not in values:
            # After an epoch's last batch it is an error, or awaited from the validation of a later epoch.
            if not trainer.is_last_batch:
                self._warn_missing_monitor(trainer, values)
            return False
        is_fresh = trainer.progress.validated_batch == trainer.progress.batch
        return self._is_among_best(torch.as_tensor(values[self.monitor]), is_fresh=is_fresh)

    def _deletable(self, trainer: Trainer, displaced: Iterable[str]) -> set[str]:
        """Return what is ours to delete: in our folder, of no more use, and not what the user started the run from."""
        useful = self.paths_in_use()
        if trainer.ckpt_path and not trainer.continues_last:
            useful.add(_folder(trainer.ckpt_path))
        ours = os.path.join(self.dirpath or "", "")
        return {path for path in displaced if path.startswith(ours) and path not in useful}

    def _write(self, plan: _Plan, checkpoint: dict[str, Any], path: str) -> None:
        """Write what is planned, and then delete what it displaces."""
        write_checkpoint(checkpoint, path)
        if plan.path and plan.last:
            repeat = link_checkpoint if self.save_last == "link" else copy_checkpoint
            repeat(plan.path, plan.last)
        if plan.said:
            print(f"{WHERE}: {plan.said}")
        self._delete_obsolete()

    def _write_beside(self, plan: _Plan, checkpoint: dict[str, Any], path: str) -> None:
        check_storable(checkpoint)
        self._background.start(partial(self._write, plan, snapshot(checkpoint), path))

    def _delete_obsolete(self) -> None:
        for path in list(self._obsolete):
            try:
                remove_checkpoint(path)
            except OSError as error:
                self._warn_once(path, f"{path} could not be deleted, and will be tried again: {error}")
            else:
                self._obsolete.discard(path)

    # Their names

    def format_checkpoint_name(
        self, metrics: dict[str, Any], filename: str | None = None, ver: int | None = None
    ) -> str:
        """Return the path of a checkpoint.

        >>> ModelCheckpoint().format_checkpoint_name({"epoch": 2, "step": 15})
        'epoch=2-step=15.ckpt'
        >>> ModelCheckpoint().format_checkpoint_name({"epoch": 2, "val/loss": 0.123}, "{epoch:02d}-{val/loss:.2f}")
        'epoch=02-val-loss=0.12.ckpt'

        Args:
            metrics: Values of what the template names; what is missing counts as 0.
            filename: The template, if not that of this callback.
            ver: A version to put at the end.
        """
        template = filename or self.filename or f"{{epoch}}{self.CHECKPOINT_JOIN_CHAR}{{step}}"
        equals = self.CHECKPOINT_EQUALS_CHAR if self.auto_insert_metric_name else None
        name = fill_template(template, metrics, equals=equals)
        name = name if ver is None else f"{name}{self.CHECKPOINT_JOIN_CHAR}v{ver}"
        return os.path.join(self.dirpath or "", f"{name}{self.FILE_EXTENSION}")

    def _free_path(self, trainer: Trainer, values: dict[str, Any], filename: str | None, reuse: list[str]) -> str:
        if not self.enable_version_counter:
            return self.format_checkpoint_name(values, filename)
        # What another one saves beside training may not be there yet.
        others = (each for each in trainer.checkpoint_callbacks if each is not self)
        taken = {path for each in others for path in each.paths_in_use()}
        return free_path(
            lambda ver: self.format_checkpoint_name(values, filename, ver), self.STARTING_VERSION, reuse, taken
        )

    def _values(self, trainer: Trainer) -> dict[str, Any]:
        """What file names may hold, and what can be monitored."""
        return {**trainer.callback_metrics, "epoch": trainer.current_epoch, "step": trainer.global_step}

    def _refuse_missing_monitor(self, trainer: Trainer) -> None:
        monitor, values = self.monitor, self._values(trainer)
        # A validation that is still to come may log it.
        complete = trainer.progress.validated_batch >= 0 or not any(trainer.num_val_batches)
        if monitor is None or self.save_top_k == 0 or trainer.fast_dev_run or not complete:
            return
        if trainer.strategy.agreed(lambda: monitor not in values):
            raise missing_metric_error(monitor, values, WHERE)

    def _warn_missing_monitor(self, trainer: Trainer, values: dict[str, Any]) -> None:
        if self.monitor is not None and self.monitor not in values and trainer.is_global_zero:
            missing = missing_metric(self.monitor, values, WHERE)
            self._warn_once(self.monitor, f"{missing}\nUntil it is, nothing is ranked.")

    def _warn_once(self, subject: str, message: str) -> None:
        if subject not in self._warned:
            self._warned.add(subject)
            warnings.warn(message, stacklevel=3)


class _Plan(NamedTuple):
    """What rank 0 decided at a save point: what to write and to say, and what the callback remembers then."""

    path: str | None
    last: str | None
    said: str
    memory: dict[str, Any]


def _folder(path: str | os.PathLike[str]) -> str:
    path = os.fspath(path)
    return path.rstrip("/") if is_remote(path) else os.path.realpath(os.path.expanduser(path))
