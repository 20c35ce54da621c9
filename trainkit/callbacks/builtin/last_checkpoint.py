"""The built-in plugin that keeps the newest state of a run, apart from the checkpoints that a callback ranks."""

from __future__ import annotations

import os
import secrets
import threading
from pathlib import PurePath, PurePosixPath
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple, TypedDict

from trainkit.callbacks.builtin.last_path import claim_path, folder_of
from trainkit.checkpoint.background import BackgroundJob
from trainkit.checkpoint.head import read_head
from trainkit.checkpoint.state import has_state
from trainkit.errors import CheckpointWriteError
from trainkit.hooks.callback import Callback
from trainkit.hooks.due import running_hook
from trainkit.hooks.manager import PluginStage
from trainkit.hooks.specs import hookimpl
from trainkit.output import warn
from trainkit.storage.claim import FolderClaim
from trainkit.storage.files import Content, check_folder, share_checkpoint, write_checkpoint
from trainkit.storage.places import is_below
from trainkit.storage.remote import is_remote
from trainkit.storage.schema import takes
from trainkit.types import Stage

if TYPE_CHECKING:
    from trainkit.trainer import Trainer


class _State(TypedDict):
    """The name of the run."""

    run: str


class LastCheckpoint(Callback):
    """Keeps one file from which a run can be continued: ``last.ckpt`` in its folder, its newest state.

    It is written at the end of each epoch, also of one in which training stops, after each validation within an epoch,
    and when a signal interrupts the run. Where a `ModelCheckpoint` writes the same state, the file is a hard link to
    that one, which costs no second write.

    Args:
        at_save_points: Whether it is written when nothing has happened to the run; False leaves the interruptions.

    Attributes:
        run: The name of the run: its file, as seen from ``default_root_dir``.
        mark: A random text in all checkpoints of the run, and of runs that go on from it. A name may be made up; who
            has this text has one of the files.
        path: The file. One of that name that belongs to another run is left alone: then it is ``last-v1.ckpt``.
    """

    # Of the plugins that go last in a hook (`trylast`), the first in the order of stages is called last of all: so it
    # saves the state after everybody, the progress bar included. The Trainer registers it first of its stage.
    stage: ClassVar[PluginStage] = "setup"

    def __init__(self, *, at_save_points: bool = True) -> None:
        self.at_save_points = at_save_points
        self.path = ""
        self._previous = ""  # that of the fit before
        self.run = self.mark = ""
        self._saved_run = ""
        self._saved_at = _Place()
        self._saved_s = 0.0  # the seconds spent training in the newest save
        self._position: tuple[int, ...] = ()  # of the newest save
        self._claim: FolderClaim | None = None
        self._num_saves, self._linked = 0, 0
        self._linking = threading.Lock()
        self._background: BackgroundJob | None = None
        self._warned = False

    def state_dict(self) -> dict[str, Any]:
        """Return the name of the run."""
        return {"run": self.run}

    @takes(_State)
    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Note what `state_dict` returned: whether the run is continued, or another one begins, is known later."""
        self._saved_run = str(state["run"])

    def on_load_checkpoint(self, trainer: Trainer, checkpoint: dict[str, Any]) -> None:
        if trainer.state.fn is Stage.FIT:
            self.mark = checkpoint.get("trainkit", {}).get("mark", "")

    def setup(self, stage: Stage) -> None:
        if stage is Stage.FIT:
            self._previous, self.path = self.path, ""

    def on_fit_start(self, trainer: Trainer) -> None:
        self._saved_at = _Place()
        self._position = ()
        self._warned = False
        self.mark = trainer.strategy.broadcast_object(self.mark or secrets.token_hex(16))
        self.path = trainer.strategy.agreed(lambda: self._choose_path(trainer))
        path = self.path if is_remote(self.path) else os.path.relpath(self.path, trainer.default_root_dir)
        self.run = PurePath(path).as_posix()
        if any(callback.async_save for callback in trainer.checkpoint_callbacks):
            self._background = BackgroundJob()
        if self.at_save_points:
            trainer.strategy.agreed(lambda: self._check_folder(trainer))

    @hookimpl(trylast=True)
    def on_validation_end(self, trainer: Trainer) -> None:
        # After the last batch of an epoch its end comes next, and an open accumulation group is closed soon.
        is_within_epoch = trainer.state.fn is Stage.FIT and not trainer.sanity_checking and not trainer.is_last_batch
        # Where training stops here, that epoch is left next.
        run = trainer.fit_run if is_within_epoch else None
        if run is not None and not run.accumulation.batches and not run.stops_here():
            self.save_point(trainer)

    @hookimpl(trylast=True)
    def on_train_epoch_end(self, trainer: Trainer) -> None:
        self.save_point(trainer)

    def on_train_end(self, trainer: Trainer) -> None:
        self.finish_write(trainer)
        # Time that was up only after the newest save, which took some itself: found there, the run would train on.
        max_s = trainer.fit_run.limits.max_time_s
        if self.at_save_points and trainer.strategy.any_rank(self._saved_s < max_s <= trainer.progress.elapsed_s):
            self.save(trainer)

    def teardown(self, trainer: Trainer) -> None:
        self.finish_write(trainer)
        if self._claim is not None:
            self._claim.release()
            self._claim = None

    def note_saved(self, trainer: Trainer) -> int:
        """Note that a `ModelCheckpoint` saves the present state; return the number of the save for `link`, or 0."""
        if not self.at_save_points or not self.path:
            return 0
        self.finish_write(trainer)
        # Where other plugins have yet to be called, such as another `ModelCheckpoint`, the state after them is another.
        if not self._awaits_others(trainer):
            self._note(trainer)
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
        """Whether a state of the present step is kept, or is about to be, so that none is to be written."""
        # Asked on every rank, and answered alike: all have the same counters, and note the same saves.
        is_end, now, saved = trainer.fit_run.ends_with_epoch(), _Place.of(trainer), self._saved_at
        if saved.step != now.step:
            return False
        # There is one save at a step at most, as there is of all save points. But a run that is over has to be found at
        # its end, and what was saved behind the last batch of an epoch not ahead of the end of that.
        if saved != now and now.ends_epoch and is_end:
            return False
        return saved.ends_epoch or not now.ends_epoch or saved.batches < now.batches

    def save(self, trainer: Trainer) -> None:
        """Write the present state, and return when that is done."""
        if not self.path:  # interrupted in the first hook, by a plugin that comes before this one
            self.on_fit_start(trainer)
        self.finish_write(trainer)
        trainer.save_checkpoint(self.path)

    def save_point(self, trainer: Trainer) -> None:
        """Keep the present state, unless it is kept already or only interruptions are."""
        if not self.at_save_points or self.has_saved(trainer):
            return
        self._finish_all(trainer)
        try:
            trainer.save_checkpoint(self.path, write=self._write, background=self._background)
        except CheckpointWriteError as error:
            self.warn(error)
        self._note(trainer)

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

    def _check_folder(self, trainer: Trainer) -> None:
        """Find out now, and not at the first save, whether the file can be written. Runs on rank 0.

        Raises:
            CheckpointWriteError: If it cannot, and it is all that would be kept of the run.
        """
        try:
            check_folder(os.path.dirname(self.path))
        except CheckpointWriteError as error:
            if not any(callback.save_top_k or callback.save_last for callback in trainer.checkpoint_callbacks):
                raise
            self.warn(error)

    def _note(self, trainer: Trainer) -> None:
        self._saved_at, self._saved_s = _Place.of(trainer), trainer.progress.elapsed_s
        self._position = trainer.progress.position

    def is_kept(self, trainer: Trainer) -> bool:
        """Whether the newest state that is kept is the present one, after which no plugin has anything to do."""
        return self._position == trainer.progress.position

    def _awaits_others(self, trainer: Trainer) -> bool:
        """Whether plugins are still to be called in the running hook that could change the state."""
        names = (running_hook(trainer.hooks, without=self) or {"plugins": []})["plugins"]
        # Not those that look on and have no state, such as a progress bar, which goes last of all.
        waiting = [plugin for name, plugin in trainer.hooks.plugins if name in names]
        return any(getattr(each, "stage", "observe") != "observe" or has_state(each) for each in waiting)

    def _finish_all(self, trainer: Trainer) -> None:
        # A link that a callback makes in the background could take the place of the newer file.
        for callback in trainer.checkpoint_callbacks:
            callback.finish_write(trainer)
        self.finish_write(trainer)

    def _write(self, checkpoint: Content, path: str) -> None:
        # Not `write_checkpoint` itself, for which the Trainer waits for all writers: that was done.
        write_checkpoint(checkpoint, path)

    def _choose_path(self, trainer: Trainer) -> str:
        before = os.path.join(folder_of(trainer), PurePosixPath(self._saved_run).name)
        given = trainer.ckpt_path or ""
        # A state that the user named is continued in its place if it is one of these files; otherwise another run
        # begins, which may go back behind what the old one has saved.
        own = {given if is_remote(given) else os.path.realpath(given)}
        head = read_head(before)
        if trainer.continues_last and (head.run, head.mark) == (self._saved_run, self.mark):
            own.add(before)
        elif not trainer.fit_run.is_resumed:
            own.add(self._previous)
        path, self._claim = claim_path(trainer, own)
        is_elsewhere = bool(given) and not is_below(given, trainer.default_root_dir)
        if is_elsewhere and not trainer.continues_last and path not in own:
            # A run somewhere else begins. Files of the one that it starts from are not its own, and are needed there.
            self.mark = secrets.token_hex(16)
        return path


class _Place(NamedTuple):
    """Where in a run something was saved: behind which updates and batches, and whether at the end of an epoch."""

    step: int = -1
    batches: int = -1
    ends_epoch: bool = False

    @classmethod
    def of(cls, trainer: Trainer) -> _Place:
        progress = trainer.progress
        return cls(progress.global_step, progress.total_batches, progress.epoch_ended or progress.epoch_left)
