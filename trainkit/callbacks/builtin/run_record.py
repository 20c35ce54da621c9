"""The built-in plugin that keeps what a run was made with, and how it has ended, in the folder of the run."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trainkit.callbacks.builtin.fit_report import place_of
from trainkit.callbacks.builtin.run_outcome import Outcome, outcome_of_error, summary_of
from trainkit.callbacks.builtin.why_ended import why_ended
from trainkit.checkpoint.background import BackgroundJob
from trainkit.hooks.callback import Callback
from trainkit.hooks.specs import hookimpl
from trainkit.loggers.logger import loggers_of
from trainkit.output import say, warn
from trainkit.printable import printable
from trainkit.record.command_line import command_line, own_command
from trainkit.record.differences import differences
from trainkit.record.environment import environment
from trainkit.record.manifest import manifest, own_files
from trainkit.record.repository import Repository, repository_of
from trainkit.record.starts import add_patch, add_start, starts_in
from trainkit.record.summary import write_running, write_summary
from trainkit.storage.remote import is_remote

if TYPE_CHECKING:
    from trainkit.module import TrainModule
    from trainkit.trainer import Trainer

_FOLLOWS = ("trainkit.callbacks.builtin.", "trainkit.config.", "trainkit.loggers.metric_rows")
"""Where plugins are from that follow from settings, and are nobody's choice."""


class RunRecord(Callback):
    """Writes ``run.json``, ``changes.patch`` and ``summary.json`` into the folder of a fit, on rank 0 alone.

    What git and the metadata of packages say is gathered in a thread while training begins. A run that goes on from a
    checkpoint waits for that, and tells what is not as it was. Where something cannot be written, one warning says so.
    """

    def __init__(self) -> None:
        self._folder: Path | None = None  # while a fit runs of which a record is kept
        self._from: Path | None = None  # the working folder when the fit began, which may be another one later
        self._job = BackgroundJob()
        self._start: dict[str, Any] = {}
        self._is_added = False  # to run.json, with what was known at once
        self._patch = b""
        self._outcome: Outcome | None = None  # if an error has ended the fit
        self._has_told = False

    def on_fit_start(self, trainer: Trainer, module: TrainModule) -> None:
        self._folder, self._outcome, self._has_told, self._is_added = None, None, False, False
        self._from = _working_folder()
        folder = self._folder_of(trainer)
        if folder is None:
            return
        with self._telling():
            self._start, self._patch = _known_at_once(trainer), b""
            # Found here, under a lock that workers of a loader would inherit for ever if they were forked meanwhile.
            tempfile.gettempdir()
            parts = list(_parts(trainer, module))
            # Of a run that goes on, the start is compared ahead of being written.
            if not trainer.ckpt_path:
                self._begin(folder)
                # Of a run that is killed before git has answered, this much is kept.
                add_start(folder, self._start)
                self._is_added = True
            self._job.start(partial(self._gather, parts, self._folder))

    def on_train_start(self, trainer: Trainer) -> None:
        # A run that has nothing left to train when it goes on does not come here, and changes no file.
        folder = self._folder_of(trainer) if trainer.ckpt_path else None
        if folder is None:
            return
        with self._telling():
            self._begin(folder)
            self._job.finish()
            before = _start_before(trainer, folder)
            self._write_start(folder)
            if before is not None and (found := differences(before, self._start)):
                # Each in one line: what stands in run.json may be forged.
                lines = "".join(f"\n    {printable(line)}" for line in found)
                say(f"trainkit: since this run was started before, this has changed:{lines}", err=True)

    def on_exception(self, trainer: Trainer, exception: BaseException) -> None:
        # In words: the exception holds the frames it came through, and with them the batch and its activations.
        if self._folder is not None:
            self._outcome = outcome_of_error(trainer, exception)

    @hookimpl(trylast=True)  # when all rows are in the table, and the newest checkpoint is written
    def teardown(self, trainer: Trainer) -> None:
        folder, self._folder = self._folder, None
        with self._telling():
            self._job.finish()
        if folder is not None and folder.is_dir():
            with self._telling():
                outcome = self._outcome or Outcome(why_ended(trainer))
                times = {"started": self._start["started"], "ended": _now()}
                write_summary(folder, summary_of(trainer, folder, outcome, times))

    def _folder_of(self, trainer: Trainer) -> Path | None:
        folder = record_folder(trainer) if trainer.is_global_zero else None
        return folder if folder is None or self._from is None else self._from / folder

    def _begin(self, folder: Path) -> None:
        """Write that the run is going on, ahead of all that takes a while."""
        self._folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        write_running(folder, self._start["started"])

    def _gather(self, parts: list[tuple[str, object]], folder: Path | None) -> None:
        """Find out what takes a while, and write it if there is a ``folder``; no work of training waits for it."""
        found = manifest(parts)
        where = next((path.parent for path in own_files(found)), self._from)
        repository = None if where is None else repository_of(where)
        self._patch = b"" if repository is None else repository.patch
        # A new dict: the main thread may be looking through this one.
        self._start = self._start | environment() | {"parts": found, "repository": _told(repository)}
        # Who has removed the folder meanwhile wants nothing in it.
        if folder is not None and folder.is_dir():
            self._write_start(folder)

    def _write_start(self, folder: Path) -> None:
        if self._patch:
            self._start["repository"]["patch"] = add_patch(folder, self._patch)
        add_start(folder, self._start, again=self._is_added)

    @contextmanager
    def _telling(self) -> Iterator[None]:
        """Return a context in which no error ends the run: nobody has asked for the record. The first one is told."""
        try:
            yield
        except Exception as error:
            if not self._has_told:
                self._has_told = True
                warn(f"what this run was made with and how it ends is not all kept: {type(error).__name__}: {error}")


def record_folder(trainer: Trainer) -> Path | None:
    """Return the folder that a record of the fit of ``trainer`` is kept in; None if it has none of its own here."""
    if trainer.fast_dev_run or not trainer.loggers or is_remote(trainer.log_dir):
        return None
    # One that only sends what is logged elsewhere makes no folder, but checkpoints do.
    writes = any(logger.makes_folder for logger in loggers_of(trainer))
    return Path(trainer.log_dir) if writes or trainer.checkpoint_callbacks or trainer.last_checkpoint else None


def _known_at_once(trainer: Trainer) -> dict[str, Any]:
    progress, where = trainer.progress, _working_folder()
    continues = {"checkpoint": trainer.ckpt_path, "epoch": progress.epoch, "step": progress.global_step}
    return {
        "started": _now(),
        "continues": continues if trainer.ckpt_path else None,
        "command": command_line(own_command()),
        "folder": None if where is None else str(where),
        "on": place_of(trainer),
    }


def _working_folder() -> Path | None:
    with suppress(OSError):  # it may be gone
        return Path.cwd()
    return None


def _now() -> str:
    return datetime.now().astimezone().isoformat(timespec="seconds")


def _parts(trainer: Trainer, module: TrainModule) -> Iterator[tuple[str, object]]:
    yield "module", module
    if trainer.datamodule is not None:
        yield "data", trainer.datamodule
    yield "strategy", trainer.strategy
    yield "precision", trainer.precision
    for name, plugin in trainer.hooks.plugins:
        if plugin is not module and not type(plugin).__module__.startswith(_FOLLOWS):
            yield name, plugin


def _told(repository: Repository | None) -> dict[str, Any] | None:
    if repository is None:
        return None
    # The patch is the name of its file, once it is written.
    told = {"commit": repository.commit, "patch": None, "patch_is_cut": repository.is_cut}
    return told | {"left_out": repository.left_out, "untracked": repository.untracked}


def _start_before(trainer: Trainer, folder: Path) -> Mapping[str, Any] | None:
    """Return the newest start of the run that has saved the checkpoint; None if that has left no record."""
    path = trainer.ckpt_path or ""
    near = [] if is_remote(path) else Path(path).absolute().parents[:2]
    return next((starts[-1] for place in (*near, folder) if (starts := starts_in(place))), None)
