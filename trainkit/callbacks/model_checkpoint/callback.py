"""The callback that saves checkpoints during a fit: its arguments, its save points, and what it decides at each."""

from __future__ import annotations

import os
from collections.abc import Iterable
from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, NotRequired, TypedDict

import torch

from trainkit.callbacks.model_checkpoint.names import check_template, fill_template, free_path
from trainkit.callbacks.model_checkpoint.own_files import OwnFiles
from trainkit.callbacks.model_checkpoint.ranking import KeptCheckpoints
from trainkit.callbacks.model_checkpoint.triggers import SaveTriggers
from trainkit.callbacks.model_checkpoint.writer import CheckpointWriter, SavePlan
from trainkit.callbacks.monitor import Mode, missing_metric, refuse_missing
from trainkit.checkpoint.head import read_head
from trainkit.checks import Duration, file_path, flags, takes_numpy, text
from trainkit.errors import ConfigError
from trainkit.hooks.manager import PluginStage
from trainkit.interval import Interval
from trainkit.output import warn
from trainkit.storage.claim import FolderClaim
from trainkit.storage.files import check_folder, checkpoint_exists
from trainkit.storage.places import is_below
from trainkit.storage.remote import is_remote
from trainkit.storage.schema import Count, Exactly, Scalar, takes
from trainkit.types import Stage

if TYPE_CHECKING:
    from trainkit.trainer import Trainer

WHERE = "ModelCheckpoint"


class _State(TypedDict):
    """Paths and scores of files, and whether a save is due."""

    monitor: str | None
    dirpath: str | None
    best_model_path: str
    best_model_score: Scalar | None
    best_k_models: dict[str, Scalar]
    kth_best_model_path: str
    kth_value: Scalar
    last_model_path: str
    current_score: Scalar | None
    used_version: NotRequired[Count | None]
    saved_step: NotRequired[Count]
    obsolete: NotRequired[list[str]]
    due: NotRequired[tuple[bool, bool] | Annotated[list[bool], Exactly(2, bool)]]
    seen_step: NotRequired[Count | None]
    seen: NotRequired[dict[str, float]]


class ModelCheckpoint(KeptCheckpoints):
    """Saves checkpoints, and keeps the best, the newest or all of them.

    There is a save point after every validation, and one at the end of an epoch without validation. After a validation
    that follows the last batch of an epoch, the save point is at the end of the epoch, when schedulers and metrics are
    done. ``every``, ``every_n_train_steps`` and ``train_time_interval`` replace these save points. A save that falls
    due within an accumulation group waits for its update, and one that falls due right before a validation waits for
    that. Nothing is saved twice at one ``global_step``. A new file is whole and on the disk before an old one is
    deleted.

    A value of ``monitor`` ranks one checkpoint: a save point that finds no newer value than the last one did, as in an
    epoch without validation, writes at most ``last.ckpt``.

    Args:
        dirpath: The folder for the files, or a URL that fsspec knows. By default ``checkpoints`` in the folder of the
            logger, or in ``default_root_dir``.
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
        train_time_interval: Save whenever this time has passed instead, as soon as the running update is made.
        every_n_epochs: Use the save points of every n-th epoch only. ``save_last`` uses them all.
        every: Save whenever this has passed instead, counted over the whole run: ``"500 steps"``, ``"250 batches"``,
            ``"10k samples"``, ``"2 epochs"`` (at the end of each second one), or a time such as ``"30 min"``, which
            goes on where a run that is resumed stopped (``docs/how-to/intervals.md``).
        save_on_train_epoch_end: True uses only the save points at ends of epochs, False only those after validations.
        enable_version_counter: Whether a name that is taken gains a version; otherwise its file is overwritten.
        async_save: Whether training goes on while a copy of the state is written. The next save, and the end of the
            fit, wait for the write to finish, and raise its error if it failed.

    Attributes:
        best_model_path: The best checkpoint, or without ``monitor`` the newest; more in `KeptCheckpoints`.

    Raises:
        ConfigError: If an argument is not usable, or contradicts another.
        CheckpointWriteError: When a fit starts, if ``dirpath`` is not writable; later, if a file cannot be written.
        FolderInUseError: When a fit starts, if another run is writing into ``dirpath``.
        MetricError: At the end of an epoch with a save point, if ``monitor`` has not been logged.
    """

    stage: ClassVar[PluginStage] = "persist"  # the last one: the state of every other plugin is final

    CHECKPOINT_JOIN_CHAR = "-"
    CHECKPOINT_EQUALS_CHAR = "="
    CHECKPOINT_NAME_LAST = "last"
    FILE_EXTENSION = ".ckpt"
    STARTING_VERSION = 1

    @takes_numpy
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
        every: Duration | None = None,
        save_on_train_epoch_end: bool | None = None,
        enable_version_counter: bool = True,
        async_save: bool = False,
    ) -> None:
        file_path(WHERE, dirpath=dirpath)
        text(WHERE, optional=True, filename=filename)
        flags(WHERE, verbose=verbose, save_weights_only=save_weights_only, async_save=async_save)
        flags(WHERE, auto_insert_metric_name=auto_insert_metric_name, enable_version_counter=enable_version_counter)
        flags(WHERE, optional=True, save_on_train_epoch_end=save_on_train_epoch_end)
        super().__init__(None if dirpath is None else _normalized(dirpath), monitor, mode, save_top_k)
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
        self._dirpath = self.dirpath  # as it was given; setup chooses one where it is None
        self._triggers = SaveTriggers(every_n_train_steps, train_time_interval, every_n_epochs, WHERE, every)
        self._own = OwnFiles(self.FILE_EXTENSION)
        self._writer = CheckpointWriter(self._own)
        self._claim: FolderClaim | None = None  # for the time of a fit, on rank 0
        self._state_before_save: dict[str, Any] = {}  # what is true again if the newest write fails
        self._lacks_monitor = False  # whether the save of this epoch's end came without a metric to rank it by
        self._passes_over = False  # whether a save came without a new value to rank it by
        self._warned: set[str] = set()

    @property
    def state_key(self) -> str:
        # Several callbacks in one run, such as one per metric and one by time, have states of their own.
        return self._state_key(
            monitor=self.monitor,
            mode=self.mode,
            every_n_train_steps=self._triggers.every_n_train_steps,
            every_n_epochs=self._triggers.every_n_epochs,
            train_time_interval=self._triggers.train_time_interval,
            # Not in the keys of those that do without it, as older files have them.
            **({} if self._triggers.every is None else {"every": str(self._triggers.every)}),
        )

    @property
    def every(self) -> Interval | None:
        """How far it is from one save to the next, where it does not go by save points of epochs."""
        triggers = self._triggers
        if triggers.train_time_interval is not None:
            return Interval(triggers.train_time_interval.total_seconds(), "seconds")
        return Interval(triggers.every_n_train_steps, "steps") if triggers.every_n_train_steps else triggers.every

    def state_dict(self) -> dict[str, Any]:
        """Return the paths and scores of the files, and whether a save is due."""
        return {**super().state_dict(), **self._triggers.state_dict()}

    @takes(_State)
    def load_state_dict(self, state: dict[str, Any]) -> None:
        super().load_state_dict(state)
        self._triggers.load_state_dict(state)

    # The save points

    def setup(self, trainer: Trainer, stage: Stage) -> None:
        if stage != Stage.FIT:
            return
        self._warned.clear()
        self._writer.begin()
        # For each fit, because the logger has a new folder for each run. The version of rank 0 counts.
        if self._dirpath is None:
            folder = os.path.join(trainer.log_dir or trainer.default_root_dir, "checkpoints")
            self.dirpath = trainer.strategy.broadcast_object(folder if is_remote(folder) else os.path.realpath(folder))
        # Now, and not at the first save, which may be hours away.
        if (self.save_top_k or self.save_last) and not trainer.fast_dev_run:
            trainer.strategy.agreed(self._take_folder)

    def on_fit_start(self, trainer: Trainer) -> None:
        keeper = trainer.last_checkpoint
        mark = "" if keeper is None else keeper.mark
        self._own.begin(self.dirpath or "", mark, goes_below="/" in (self.filename or ""))
        # The run that is resumed may have been killed after writing a file and before deleting those it displaces. A
        # file from elsewhere says nothing of that, whatever it says.
        given = _normalized(trainer.ckpt_path or "")
        self._forget_foreign(trainer, given)
        is_of_run = keeper is not None and os.path.dirname(given) == os.path.dirname(keeper.path)
        if not (self._own.place_of(given) or is_of_run):
            self._obsolete.clear()
        if trainer.is_global_zero:
            self._writer.delete(self._obsolete)

    def _forget_foreign(self, trainer: Trainer, given: str) -> None:
        """Forget a best checkpoint that is not there, or of which a file says so in a place that nobody has named."""
        best, folder = self.best_model_path, os.path.dirname(given)
        if not best or (self.dirpath and is_below(best, self.dirpath)):
            return
        is_named = is_below(best, trainer.default_root_dir) or (folder and is_below(best, folder))
        if not (is_named and checkpoint_exists(best)):
            self.best_model_path, self.best_model_score = "", None

    def on_train_start(self, trainer: Trainer) -> None:
        run, every = trainer.fit_run, self._triggers.every
        self._triggers.start(
            trainer.global_step, is_resumed=run.is_resumed, cadence=None if every is None else run.cadence(every)
        )
        # Numbers of values are those of one Trainer, and this callback may have been in another.
        if not trainer.fit_run.is_resumed:
            self._used_version = None

    def on_train_batch_end(self, trainer: Trainer) -> None:
        triggers = self._triggers
        if triggers.every_n_train_steps:
            triggers.note_update(trainer.global_step)
        elif triggers.train_time_interval:
            # The clocks of ranks differ, and all have to save behind the same batch.
            now_s = trainer.progress.elapsed_s if triggers.is_time() else None
            if trainer.fit_run.agreement.time_of(self.state_key, now_s) is not None:
                triggers.note_time()
        elif triggers.every:
            triggers.note_count()
        # Saved now, it would hold the metric of the validation before, and schedulers that have not stepped. After the
        # last batch of an epoch on_train_epoch_end saves, and before a validation on_validation_end.
        if triggers.is_due and not trainer.is_last_batch and not trainer.fit_run.validation_due():
            self._save_if_due(trainer)

    def on_validation_end(self, trainer: Trainer) -> None:
        if trainer.state.fn != Stage.FIT or trainer.sanity_checking:
            return
        # After the last batch of an epoch its schedulers and metrics are still to come: on_train_epoch_end saves then.
        if self.save_on_train_epoch_end is False or not trainer.is_last_batch:
            # With True a validation is no save point, but what is due by steps or time has waited for it.
            if not self.save_on_train_epoch_end:
                self._triggers.note_epoch(trainer.current_epoch)
            self._save_if_due(trainer)

    def on_train_epoch_end(self, trainer: Trainer) -> None:
        # An accumulation group that the epoch's early end cut short was updated after its last batch.
        self._triggers.note_update(trainer.global_step)
        self._triggers.note_count()
        # The end of an epoch is a save point if nothing was validated in it, or if its newest validation came after the
        # last batch, whose save `on_validation_end` left for now.
        validated = trainer.progress.validated_batch
        is_save_point = validated in (-1, trainer.progress.batch)
        if self.save_on_train_epoch_end or (self.save_on_train_epoch_end is None and is_save_point):
            self._triggers.note_epoch(trainer.current_epoch)
        self._refuse_missing_monitor(trainer)
        self._save_if_due(trainer)

    def on_train_end(self, trainer: Trainer) -> None:
        if self.save_top_k != 0 and not self.best_model_path and trainer.global_step and not trainer.fast_dev_run:
            self._warn_missing_monitor(trainer, self._values(trainer))
            # On rank 0, where it is known.
            if self._passes_over:
                self._warn_once(
                    "passed over",
                    f"{WHERE}: nothing has been saved: {self.monitor!r} had no new value whenever a save was due.\n"
                    "    to do        log it, or validate, in the epochs in which it saves",
                )
        self.finish_write(trainer)

    def teardown(self, trainer: Trainer) -> None:
        try:
            self.finish_write(trainer)
        finally:
            if self._claim is not None:
                self._claim.release()
                self._claim = None

    # The files

    def _take_folder(self) -> None:
        """Check that the folder can be written into, and by this run alone. Runs on rank 0."""
        check_folder(self.dirpath or "")
        self._claim = FolderClaim(self.dirpath or "")

    def _save_if_due(self, trainer: Trainer) -> None:
        # Within an accumulation group it stays due until the update is made.
        if not self._triggers.is_due or trainer.fit_run.accumulation.batches:
            return
        for_top_k = self._triggers.take()
        if trainer.fast_dev_run or trainer.global_step == self._saved_step:
            return
        # One write at a time: whether the newest file is whole has to be known before another one is deleted for it.
        self.finish_write(trainer)
        values, self._state_before_save = self._values(trainer), self.state_dict()
        try:
            # Rank 0 alone looks at the file system; the others take over its state.
            plan = trainer.strategy.agreed(lambda: self._plan(trainer, values, for_top_k))
            # The checkpoint contains this callback's state, which has to count the file that is about to be written.
            self._restore(plan.state)
            if path := plan.path or plan.last:
                keeper = trainer.last_checkpoint
                if keeper is not None and not self.save_weights_only and (number := keeper.note_saved(trainer)):
                    plan.keeper, plan.number = keeper, number
                write = partial(self._writer.write, plan, self._obsolete)
                background = self._writer.background if self.async_save else None
                trainer.save_checkpoint(path, self.save_weights_only, write=write, background=background)
        except BaseException:  # KeyboardInterrupt too: without its file, a checkpoint must not be in the ranking
            self._restore(self._state_before_save)
            raise

    def finish_write(self, trainer: Trainer) -> None:
        """Wait for the write that runs in the background; raise its error, on every rank."""
        if not self.async_save:
            return
        try:
            trainer.strategy.agreed(self._writer.finish)
        except BaseException:
            self._restore(self._state_before_save)
            raise

    def _plan(self, trainer: Trainer, values: dict[str, Any], for_top_k: bool) -> SavePlan:
        """Decide what to write and what to delete, and change the state of this callback as if it were done.

        Runs on rank 0 alone.
        """
        path, last, message = None, None, ""
        # An epoch that `every_n_epochs` passes over has had its value, which does not stand for a later epoch. Steps
        # and times fall anywhere, and go by the newest value that there is.
        is_new = (for_top_k or bool(self._triggers.every_n_epochs)) and self._use_value(trainer)
        displaced = [self.last_model_path]
        # The ranking: `path` is a new file in it, if it is good enough.
        if for_top_k and self.save_top_k != 0 and self._is_wanted(trainer, values, is_new=is_new):
            leaving = self._evict()
            # A name that is about to be free is reused: the new file replaces the old one in one step.
            path = self._free_path(trainer, values, self.filename, reuse=filter(self._own.has, leaving))
            self._add(path)
            displaced += leaving
        # last.ckpt: at every save point; as a link only where there is a new file to link to, or no file at all.
        if self.save_last and (path or self.save_last != "link" or not self.best_model_path):
            # In the folder of the run it may be the file in which that keeps its newest state: it is the same state.
            keeper = trainer.last_checkpoint
            reuse = [*filter(self._own.has, [self.last_model_path]), keeper.path if keeper else ""]
            last = self._free_path(trainer, values, self.CHECKPOINT_NAME_LAST, reuse=reuse)
            self.last_model_path = last
        if path or last:
            self._saved_step = trainer.global_step
            # Files to delete once the new one is whole. One that is written again under its old name is not among them.
            self._obsolete = (self._obsolete | self._deletable(trainer, displaced)) - {path, last}
        if self.verbose:
            score = "" if self.current_score is None else f", {self.monitor} = {self.current_score.item():.6g}"
            message = f"epoch {trainer.current_epoch}, step {trainer.global_step}{score}: saved {path or last}"
        return SavePlan(path, last, self.save_last == "link", message, self.state_dict())

    def _use_value(self, trainer: Trainer) -> bool:
        """Note that the value of ``monitor`` has its turn; return whether it is another one than the last time."""
        monitor = self.monitor or "step"
        # What every save point has of itself is new at each.
        version = trainer.global_step if monitor in ("epoch", "step") else trainer.metrics.version(monitor)
        is_new, self._used_version = version != self._used_version, version
        return is_new

    def _is_wanted(self, trainer: Trainer, values: dict[str, Any], *, is_new: bool) -> bool:
        if self.monitor is None:
            return True
        if self.monitor not in values:
            # After the last batch `_refuse_missing_monitor` looks, at the end of the epoch, when all is logged; if it
            # has looked, the metric is expected from the validation of a later epoch.
            self._lacks_monitor = trainer.is_last_batch
            if not trainer.is_last_batch:
                self._warn_missing_monitor(trainer, values)
            return False
        if not is_new:
            self._passes_over = True
            return False
        return self._is_among_best(torch.as_tensor(values[self.monitor]))

    def _deletable(self, trainer: Trainer, displaced: Iterable[str]) -> set[str]:
        """Return those of ``displaced`` that may be deleted; whether they are the run's own is asked when they are.

        These are not kept for another reason (the best may be the last as well), and not the checkpoint that the user
        named as ``ckpt_path``. The one that ``ckpt_path="last"`` found may be deleted.
        """
        useful = self.paths_in_use()
        if trainer.ckpt_path and not trainer.continues_last:
            useful.add(_normalized(trainer.ckpt_path))
        return {path for path in displaced if path not in useful}

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
            ver: A version to put at the end; None for no version.
        """
        template = filename or self.filename or f"{{epoch}}{self.CHECKPOINT_JOIN_CHAR}{{step}}"
        equals = self.CHECKPOINT_EQUALS_CHAR if self.auto_insert_metric_name else None
        name = fill_template(template, metrics, equals=equals)
        name = name if ver is None else f"{name}{self.CHECKPOINT_JOIN_CHAR}v{ver}"
        return os.path.join(self.dirpath or "", f"{name}{self.FILE_EXTENSION}")

    def _free_path(self, trainer: Trainer, values: dict[str, Any], filename: str | None, reuse: Iterable[str]) -> str:
        if not self.enable_version_counter:
            return self.format_checkpoint_name(values, filename)
        # The file of another ModelCheckpoint with async_save may not exist yet, although its name is taken.
        others = (each for each in trainer.checkpoint_callbacks if each is not self)
        taken = {path for each in others for path in each.paths_in_use()}
        if filename == self.filename and trainer.last_checkpoint is not None:
            taken.add(trainer.last_checkpoint.path)
        return free_path(
            lambda ver: self.format_checkpoint_name(values, filename, ver),
            self.STARTING_VERSION,
            list(reuse),
            taken,
            partial(_is_repeated, trainer),
        )

    def _values(self, trainer: Trainer) -> dict[str, Any]:
        """Return the values that file names may contain and ``monitor`` may name."""
        return {**trainer.callback_metrics, "epoch": trainer.current_epoch, "step": trainer.global_step}

    def _refuse_missing_monitor(self, trainer: Trainer) -> None:
        monitor, values = self.monitor, self._values(trainer)
        # Only an epoch with a save has to have it: it may be logged in every second one.
        is_asked, self._lacks_monitor = self._triggers.is_due_for_top_k or self._lacks_monitor, False
        # Before the first validation has run, it may still be logged there.
        complete = trainer.progress.validated_batch >= 0 or not any(trainer.num_val_batches)
        if monitor is None or self.save_top_k == 0 or not complete:
            return
        # A value that all ranks have is missing on none.
        if trainer.metrics.is_shared(monitor):
            return
        if trainer.strategy.agreed(lambda: is_asked and monitor not in values):
            refuse_missing(trainer, monitor, values, WHERE)

    def _warn_missing_monitor(self, trainer: Trainer, values: dict[str, Any]) -> None:
        if self.monitor is not None and self.monitor not in values and trainer.is_global_zero:
            missing = missing_metric(self.monitor, values, WHERE, trainer.metrics)
            self._warn_once(self.monitor, f"{missing}\nUntil it is there, nothing is ranked.")

    def _warn_once(self, subject: str, message: str) -> None:
        if subject not in self._warned:
            self._warned.add(subject)
            warn(message)


def _is_repeated(trainer: Trainer, path: str) -> bool:
    """Whether ``path`` is the save that is due: this run was here before, and then continued from an earlier state."""
    keeper = trainer.last_checkpoint
    if keeper is None or not trainer.fit_run.is_resumed:
        return False
    head = read_head(path)
    is_of_run = (head.run, head.mark) == (keeper.run, keeper.mark)
    return is_of_run and (head.epoch, head.global_step) == (trainer.current_epoch, trainer.global_step)


def _normalized(path: str | os.PathLike[str]) -> str:
    # Paths are compared as text, also with those in the state of an earlier run, so each file needs one spelling.
    path = os.fspath(path)
    return path.rstrip("/") if is_remote(path) else os.path.realpath(os.path.expanduser(path))
