"""The TensorBoard logger: metrics as curves."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any, ClassVar

from trainkit.checks import number, takes_numpy
from trainkit.errors import LogWriteError
from trainkit.loggers.dummy import DummyExperiment
from trainkit.loggers.hparams_yaml import update_hparams_file
from trainkit.loggers.logger import Logger, Status
from trainkit.loggers.run_folder import writing
from trainkit.loggers.run_mark import make_mark
from trainkit.storage.schema import Count, takes

if TYPE_CHECKING:
    from tensorboard.compat.proto.summary_pb2 import Summary
    from torch.utils.tensorboard import SummaryWriter

    from trainkit.loggers.tensorboard.events_behind import EventsBehind
    from trainkit.trainer import Trainer


class TensorBoardLogger(Logger):
    """Writes TensorBoard's event files, and ``hparams.yaml``.

    Hyperparameters go to the HPARAMS page, which shows them beside the last value of every curve.

    Args:
        save_dir: The folder of all experiments; None is the Trainer's ``default_root_dir``.
        name: The folder of this experiment within it; None or "" for ``save_dir`` itself.
        version: The run: a number N for ``version_N``, or a folder's whole name. None takes the next free number.
        prefix: Put before the names of metrics, with a ``-`` between.
        flush_secs: Seconds after which the next row makes it and all before it visible to readers.

    Raises:
        ConfigError: If an argument is not usable.
    """

    shares_folder: ClassVar[bool] = False
    makes_folder: ClassVar[bool] = True

    @takes_numpy
    def __init__(
        self,
        save_dir: str | os.PathLike[str] | None = None,
        name: str | None = "trainkit_logs",
        version: int | str | None = None,
        *,
        prefix: str = "",
        flush_secs: float = 30.0,
    ) -> None:
        super().__init__(save_dir, name, version, prefix=prefix)
        number("flush_secs", flush_secs, at_least=0, where="TensorBoardLogger")
        self.flush_secs = flush_secs
        self._events: Any = None  # an EventFile, or the file of the SummaryWriter, which has the same methods
        self._summary_writer: SummaryWriter | None = None
        self._has_hparams = False
        self._is_of_training = True  # the open file
        self._behind: EventsBehind | None = None

    def setup(self, trainer: Trainer) -> None:
        super().setup(trainer)
        # What stays and what a run that goes on logs again are in files of their own.
        if self._is_of_training != self.trains:
            with self.heard():
                self._close()

    @property
    def experiment(self) -> Any:
        """A ``torch.utils.tensorboard.SummaryWriter``, for images and the like; on other ranks it does nothing."""
        if not self.writes:
            return DummyExperiment()
        if self._summary_writer is None:
            with self.heard(), writing(self.log_dir):
                self._open_writer()
        return self._summary_writer or DummyExperiment()

    def log_metrics(self, metrics: Mapping[str, Any], step: int | None = None) -> None:
        if not self.writes:
            return
        from tensorboard.compat.proto.summary_pb2 import Summary

        step, row = self.step_of(step), self.row_of(metrics)
        self._add(Summary(value=[Summary.Value(tag=name, simple_value=value) for name, value in row.items()]), step)
        if self._behind is not None and self.trains:
            self._behind.log(step, row)
            if self._behind.are_passed:
                self.save()

    def log_hyperparams(self, params: Mapping[str, Any], metrics: Mapping[str, Any] | None = None) -> None:
        """Write hyperparameters, and a first value for the curves of ``metrics``."""
        if not self.writes:
            return
        from trainkit.loggers.tensorboard.hparams import session_start

        with self.heard():
            update_hparams_file(self.log_dir, params)
        self._add(session_start(params), self.step_of(None))
        self._has_hparams = True
        if metrics:
            self.log_metrics(metrics)

    def save(self) -> None:
        with self.heard(), self._writing():
            if self._events is not None:
                self._events.flush()
            if self._behind is not None:
                self._behind.remove_passed()
                if self._behind.are_passed:
                    self._behind = None

    def written(self) -> dict[str, int]:
        from trainkit.loggers.tensorboard.event_file import sizes_of_files

        self.save()
        sizes = sizes_of_files(self.log_dir) | (self._behind.settled if self._behind is not None else {})
        return {name: size for name, size in sizes.items() if size}

    @takes(dict[str, Count])
    def cut_back(self, written: dict[str, int]) -> None:
        from trainkit.loggers.tensorboard.events_behind import EventsBehind

        with self.heard(), writing(self.log_dir):
            # What was logged before the run began is in the open file, and belongs to this run.
            behind = EventsBehind(self.log_dir, written, keep=os.path.basename(self._path() or ""))
            self._behind = behind if behind.settled else None

    def finalize(self, status: Status) -> None:
        try:
            if self._has_hparams:
                from trainkit.loggers.tensorboard.hparams import session_end

                self._add(session_end(status == "success"), self.step_of(None))
            if self._behind is not None:
                if status == "success":
                    self._behind.finish()
                self.save()
        finally:
            # A disk that refuses the last record must not keep the file open.
            self._has_hparams, self._behind = False, None
            self._close()

    def _add(self, summary: Summary, step: int) -> None:
        with self.heard(), self._writing():
            if self._events is None:
                from trainkit.loggers.tensorboard.event_file import EventFile

                self._events = EventFile(self.log_dir, self.flush_secs, self._suffix())
            self._events.add_summary(summary, step)

    @contextmanager
    def _writing(self) -> Iterator[None]:
        """Return a context for writing to the open file. Where that fails it is given up; later rows get a new one."""
        with writing(self.log_dir):
            path = self._path()
            # Where a file has been removed, writing into it succeeds, and nobody ever reads it.
            if path is not None and not os.path.exists(path):
                self._give_up()
                self.tell_removed(path)
            try:
                yield
            except OSError:
                # It may end with half a row, behind which readers see nothing.
                self._give_up()
                raise

    def _open_writer(self) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self._close()
        flush_secs = int(self.flush_secs)
        self._summary_writer = SummaryWriter(self.log_dir, flush_secs=flush_secs, filename_suffix=self._suffix())
        # Metrics go into its file from now on: once TensorBoard has moved to a newer file, it reads no older one.
        self._events = self._summary_writer.file_writer

    def _suffix(self) -> str:
        """Return how the name of a file ends that is opened now."""
        from trainkit.loggers.tensorboard.event_file import suffix_of_training

        self._is_of_training = self.trains
        return suffix_of_training(make_mark(self.log_dir)) if self.trains else ""

    def _path(self) -> str | None:
        """Return the path of the open file, or None. A user may have logged something before the run began."""
        if self._summary_writer is not None:
            path: str = self._events.event_writer._file_name  # torch has no public way to ask
            return path
        return None if self._events is None else str(self._events.path)

    def _give_up(self) -> None:
        with suppress(LogWriteError):
            self._close()

    def _close(self) -> None:
        """Close the file; later rows go to a new one."""
        # The SummaryWriter closes its file writer, which is `_events` then.
        closing, writer = self._summary_writer or self._events, self._summary_writer
        self._events = self._summary_writer = None
        if writer is not None:
            writer.filename_suffix = ""  # a user who has kept it may write on, into a file of that user's own
        if closing is not None:
            with writing(self.log_dir):
                closing.close()
