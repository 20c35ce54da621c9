"""The built-in plugin that keeps the newest state of a run, apart from the checkpoints that a callback ranks."""

from __future__ import annotations

import itertools
import os
import threading
from functools import partial
from pathlib import PurePath, PurePosixPath
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

from trainkit.checkpoint.background import BackgroundJob, snapshot
from trainkit.checkpoint.locate import LAST, SUFFIX
from trainkit.errors import CheckpointWriteError
from trainkit.hooks.callback import Callback
from trainkit.hooks.due import running_hook
from trainkit.hooks.manager import PluginStage
from trainkit.hooks.specs import hookimpl
from trainkit.storage.files import checkpoint_exists, share_checkpoint, write_checkpoint
from trainkit.storage.output import warn
from trainkit.storage.remote import is_remote
from trainkit.storage.storable import check_storable
from trainkit.types import Stage

if TYPE_CHECKING:
    from trainkit.trainer import Trainer


class LastCheckpoint(Callback):
    """Keeps one file from which a run can be continued: ``last.ckpt`` in its folder, its newest state.

    It is written at the end of each epoch, also of one in which training stops, after each validation within an epoch,
    and when a signal interrupts the run. Where a `ModelCheckpoint` writes the same state, the file is a hard link to
    that one, which costs no second write.

    Args:
        at_save_points: Whether it is written when nothing has happened to the run; False leaves the interruptions.

    Attributes:
        run: The name of the run: its file, as seen from ``default_root_dir``.
        path: The file. One of that name that belongs to another run is left alone: then it is ``last-v1.ckpt``.
    """

    # Of the plugins that go last in a hook (`trylast`), the first in the order of stages is called last of all: so it
    # saves the state after everybody, the progress bar included. The Trainer registers it first of its stage.
    stage: ClassVar[PluginStage] = "setup"

    def __init__(self, *, at_save_points: bool = True) -> None:
        self.at_save_points = at_save_points
        self.path = ""
        self._previous = ""  # that of the fit before
        self.run = ""
        self._saved_run = ""
        self._saved_at = _Place()
        self._num_saves, self._linked = 0, 0
        self._linking = threading.Lock()
        self._background: BackgroundJob | None = None
        self._warned = False

    def state_dict(self) -> dict[str, Any]:
        """Return the name of the run."""
        return {"run": self.run}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Note what `state_dict` returned: whether the run is continued, or another one begins, is known later."""
        self._saved_run = state["run"]

    def setup(self, stage: Stage) -> None:
        if stage is Stage.FIT:
            self._previous, self.path = self.path, ""

    def on_fit_start(self, trainer: Trainer) -> None:
        self._saved_at = _Place()
        self._warned = False
        self.path = trainer.strategy.agreed(lambda: self._own_path(trainer))
        path = self.path if is_remote(self.path) else os.path.relpath(self.path, trainer.default_root_dir)
        self.run = PurePath(path).as_posix()
        if any(callback.async_save for callback in trainer.checkpoint_callbacks):
            self._background = BackgroundJob()

    @hookimpl(trylast=True)
    def on_validation_end(self, trainer: Trainer) -> None:
        # After the last batch of an epoch its end comes next, and an open accumulation group is closed soon.
        is_within_epoch = trainer.state.fn is Stage.FIT and not trainer.sanity_checking and not trainer.is_last_batch
        # Where training stops here, that epoch is left next.
        run = trainer.fit_run if is_within_epoch else None
        if run is not None and not run.accumulation.batches and not run.stops_here():
            self._save_point(trainer)

    @hookimpl(trylast=True)
    def on_train_epoch_end(self, trainer: Trainer) -> None:
        self._save_point(trainer)

    def on_train_end(self, trainer: Trainer) -> None:
        self.finish_write(trainer)

    def teardown(self, trainer: Trainer) -> None:
        self.finish_write(trainer)

    def note_saved(self, trainer: Trainer) -> int:
        """Note that a `ModelCheckpoint` saves the present state; return the number of the save for `link`, or 0."""
        if not self.at_save_points or not self.path:
            return 0
        self.finish_write(trainer)
        # Where other plugins have yet to be called, such as another `ModelCheckpoint`, the state after them is another.
        if running_hook(trainer.hooks, without=self) is None:
            self._saved_at = _Place.of(trainer)
        self._num_saves += 1
        # At URLs there are no links, and what the callback has sent need not be sent twice.
        return 0 if is_remote(self.path) else self._num_saves

    def link(self, path: str, number: int) -> None:
        """Make ``path``, the file of save ``number``, the newest state; not if a later save has come before it.

        May be called in another thread: files that are written in the background are finished late.
        """
        with self._linking:
            if number <= self._linked:
                return
            self._linked = number
            if path == self.path:
                return
            try:
                share_checkpoint(path, self.path)
            except CheckpointWriteError as error:
                self.warn(error)

    def has_saved(self, trainer: Trainer) -> bool:
        """Whether the present state is kept, or is about to be."""
        saved, now = self._saved_at, _Place.of(trainer)
        if saved.step != now.step or saved.ends_epoch or not now.ends_epoch:
            return saved.step == now.step  # there is one save at a step at most, as there is of all save points
        # But a run that is over has to be found at its end, and not within its last epoch.
        return saved.batches < now.batches and not trainer.fit_run.ends_with_epoch()

    def save(self, trainer: Trainer) -> None:
        """Write the present state, and return when that is done."""
        if not self.path:  # interrupted in the first hook, by a plugin that comes before this one
            self.on_fit_start(trainer)
        try:
            self._finish_all(trainer)
        finally:  # also if an older file could not be written
            trainer.save_checkpoint(self.path)

    def finish_write(self, trainer: Trainer) -> None:
        """Wait for the write that runs in the background."""
        if self._background is not None:
            try:
                trainer.strategy.agreed(self._background.finish)
            except CheckpointWriteError as error:
                self.warn(error)

    def warn(self, error: CheckpointWriteError) -> None:
        """Say once that the file could not be written. Nobody has asked for it, so it does not end the run."""
        if not self._warned:
            self._warned = True
            warn(f"{error}\nThe newest state of the run is not kept while that lasts; training goes on.")

    def _save_point(self, trainer: Trainer) -> None:
        if not self.at_save_points or self.has_saved(trainer):
            return
        self._finish_all(trainer)
        write = write_checkpoint if self._background is None else self._write_later
        try:
            trainer.save_checkpoint(self.path, write=write)
        except CheckpointWriteError as error:
            self.warn(error)
        self._saved_at = _Place.of(trainer)

    def _finish_all(self, trainer: Trainer) -> None:
        # A link that a callback makes in the background could take the place of the newer file.
        for callback in trainer.checkpoint_callbacks:
            callback.finish_write(trainer)
        self.finish_write(trainer)

    def _write_later(self, checkpoint: dict[str, Any], path: str) -> None:
        assert self._background is not None
        check_storable(checkpoint)
        self._background.start(partial(write_checkpoint, snapshot(checkpoint), path))

    def _own_path(self, trainer: Trainer) -> str:
        """Return the first free name, or the file that this run has written before."""
        folder = _folder(trainer)
        # From a checkpoint that the user named another run begins: it may go back behind what the old one has saved.
        # Only where that is such a file itself, it is continued.
        own = [os.path.realpath(trainer.ckpt_path or "")]
        if trainer.continues_last:
            own.append(os.path.join(folder, PurePosixPath(self._saved_run).name))
        elif not trainer.fit_run.is_resumed:
            own.append(self._previous)
        names = itertools.chain([LAST], (f"{LAST}-v{version}" for version in itertools.count(1)))
        paths = (os.path.join(folder, f"{name}{SUFFIX}") for name in names)
        return next(path for path in paths if path in own or not checkpoint_exists(path))


class _Place(NamedTuple):
    """Where in a run something was saved: behind which updates and batches, and whether at the end of an epoch."""

    step: int = -1
    batches: int = -1
    ends_epoch: bool = False

    @classmethod
    def of(cls, trainer: Trainer) -> _Place:
        progress = trainer.progress
        return cls(progress.global_step, progress.total_batches, progress.epoch_ended or progress.epoch_left)


def _folder(trainer: Trainer) -> str:
    """Return the folder of the run, or where a callback saves to a URL, that, since this machine may not last."""
    callbacks = trainer.checkpoint_callbacks
    urls = [callback.dirpath for callback in callbacks if is_remote(callback.dirpath or "")]
    # Where the user has asked for a last.ckpt, it is one file with that; where for a link of that name, not beside it.
    asked_for = [each.dirpath for each in callbacks if each.save_last is True and not each.save_weights_only]
    for folder in (*urls, *asked_for):
        if folder:
            return folder
    # Without a logger a run has no folder of its own.
    root = trainer.default_root_dir
    folder = trainer.log_dir if trainer.loggers else os.path.join(root, "checkpoints")
    folder = folder if is_remote(folder) else os.path.realpath(folder)
    has_link = any(each.save_last == "link" and each.dirpath == folder for each in callbacks)
    return os.path.realpath(root) if has_link else folder
