"""The TensorBoard logger: metrics as curves."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

from trainkit.errors import ConfigError
from trainkit.loggers.dummy import DummyExperiment
from trainkit.loggers.hparams_yaml import update_hparams_file
from trainkit.loggers.logger import Logger, Status
from trainkit.loggers.run_folder import writing

if TYPE_CHECKING:
    from tensorboard.compat.proto.summary_pb2 import Summary
    from torch.utils.tensorboard import SummaryWriter


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
        if not flush_secs >= 0:  # NaN is refused too
            raise ConfigError(f"flush_secs={flush_secs!r} is not usable. Allowed: seconds, 0 or more.")
        self.flush_secs = flush_secs
        self._events: Any = None  # an EventFile, or the file of the SummaryWriter, which has the same methods
        self._summary_writer: SummaryWriter | None = None
        self._has_hparams = False

    @property
    def experiment(self) -> Any:
        """A ``torch.utils.tensorboard.SummaryWriter``, for images and the like; on other ranks it does nothing."""
        if not self.writes:
            return DummyExperiment()
        if self._summary_writer is None:
            from torch.utils.tensorboard import SummaryWriter

            self._close()
            with writing(self.log_dir):
                self._summary_writer = SummaryWriter(self.log_dir, flush_secs=int(self.flush_secs))
            # Metrics go into its file from now on: once TensorBoard has moved to a newer file, it reads no older one.
            self._events = self._summary_writer.file_writer
        return self._summary_writer

    def log_metrics(self, metrics: Mapping[str, Any], step: int | None = None) -> None:
        if not self.writes:
            return
        from tensorboard.compat.proto.summary_pb2 import Summary

        row = self.row_of(metrics)
        self._add(
            Summary(value=[Summary.Value(tag=name, simple_value=value) for name, value in row.items()]),
            self.step_of(step),
        )

    def log_hyperparams(self, params: Mapping[str, Any], metrics: Mapping[str, Any] | None = None) -> None:
        """Write hyperparameters, and a first value for the curves of ``metrics``."""
        if not self.writes:
            return
        from trainkit.loggers.tensorboard.hparams import session_start

        update_hparams_file(self.log_dir, params)
        self._add(session_start(params), self.step_of(None))
        self._has_hparams = True
        if metrics:
            self.log_metrics(metrics)

    def save(self) -> None:
        if self._events is not None:
            with writing(self.log_dir):
                self._events.flush()

    def written(self) -> dict[str, int]:
        from trainkit.loggers.tensorboard.event_file import sizes_of_files

        self.save()
        return sizes_of_files(self.log_dir)

    def cut_back(self, written: dict[str, int]) -> None:
        from trainkit.loggers.tensorboard.event_file import cut_files

        with writing(self.log_dir):
            # What was logged before the run began is in the open file, and belongs to this run.
            cut_files(self.log_dir, written, keep=self._open_file())

    def finalize(self, status: Status) -> None:
        try:
            if self._has_hparams:
                from trainkit.loggers.tensorboard.hparams import session_end

                self._add(session_end(status == "success"), self.step_of(None))
        finally:
            # A disk that refuses the last record must not keep the file open.
            self._has_hparams = False
            self._close()

    def _add(self, summary: Summary, step: int) -> None:
        with writing(self.log_dir):
            if self._events is None:
                from trainkit.loggers.tensorboard.event_file import EventFile

                self._events = EventFile(self.log_dir, self.flush_secs)
            self._events.add_summary(summary, step)

    def _open_file(self) -> str | None:
        """Return the name of the open file, or None. A user may have logged something before the run began."""
        if self._summary_writer is not None:
            path: str = self._events.event_writer._file_name  # torch has no public way to ask
            return os.path.basename(path)
        return None if self._events is None else os.path.basename(self._events.path)

    def _close(self) -> None:
        """Close the file; later rows go to a new one."""
        # The SummaryWriter closes its file writer, which is `_events` then.
        closing = self._summary_writer or self._events
        self._events = self._summary_writer = None
        if closing is not None:
            with writing(self.log_dir):
                closing.close()
