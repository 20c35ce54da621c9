"""The CSV logger: metrics as a table in a text file."""

from __future__ import annotations

import os
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from trainkit.checks import takes_numpy, whole
from trainkit.loggers.csv_place import table_in
from trainkit.loggers.csv_table import append_rows, count_rows, replace_rows, rows_behind, size_of
from trainkit.loggers.hparams_yaml import update_hparams_file
from trainkit.loggers.logger import Logger, Status
from trainkit.loggers.rows_behind import RowsBehind
from trainkit.loggers.run_folder import writing
from trainkit.loggers.run_mark import make_mark
from trainkit.output import warn
from trainkit.printable import printable
from trainkit.storage.schema import Count, takes

if TYPE_CHECKING:
    from trainkit.trainer import Trainer


class CSVLogger(Logger):
    """Writes ``metrics.csv`` and ``hparams.yaml``.

    Each row of metrics is one line, with a cell left empty where the row has no such metric. Rows are appended to the
    table of an earlier run in that folder. A ``metrics.csv`` that no run has written there, or that is a link, is left
    as it is: the rows go to ``metrics-v1.csv`` beside it, and a warning says so.

    Args:
        save_dir: The folder of all experiments; None is the Trainer's ``default_root_dir``.
        name: The folder of this experiment within it; None or "" for ``save_dir`` itself.
        version: The run: a number N for ``version_N``, or a folder's whole name. None takes the next free number.
        prefix: Put before the names of metrics, with a ``-`` between.
        flush_logs_every_n_steps: Steps from one write to the next. The first row is written at once, all rows when a
            checkpoint is saved and when the run ends.

    Raises:
        ConfigError: If an argument is not usable.
    """

    shares_folder: ClassVar[bool] = False  # the name of the file is fixed
    makes_folder: ClassVar[bool] = True

    @takes_numpy
    def __init__(
        self,
        save_dir: str | os.PathLike[str] | None = None,
        name: str | None = "trainkit_logs",
        version: int | str | None = None,
        *,
        prefix: str = "",
        flush_logs_every_n_steps: int = 100,
    ) -> None:
        super().__init__(save_dir, name, version, prefix=prefix)
        whole("flush_logs_every_n_steps", flush_logs_every_n_steps, at_least=1)
        self.flush_logs_every_n_steps = flush_logs_every_n_steps
        self._pending: list[tuple[dict[str, Any], bool]] = []  # rows, and whether they are of training
        self._flush_at = 0
        self._rows: int | None = None  # in the file, ahead of those behind a checkpoint; None if not counted
        self._table: Path | None = None
        self._size: int | None = None  # of the file, when this logger last wrote to it in this run
        self._behind: RowsBehind | None = None
        self._removed = 0  # of those that are behind

    @property
    def metrics_file(self) -> Path:
        """The path of the table: ``metrics.csv``, or ``metrics-v1.csv`` and so on beside one of somebody else."""
        folder = Path(self.log_dir)
        if self._table is None or self._table.parent != folder:
            self._table = table_in(folder)
        return self._table

    def setup(self, trainer: Trainer) -> None:
        super().setup(trainer)
        # Chosen once for a run, at its start: what others put there later is an error of the next write.
        self._table = None
        if self.writes and (table := self.metrics_file).name != "metrics.csv":
            warn(
                f"{table.with_name('metrics.csv')} is left as it is: it is no table that a run has written in this "
                f"folder, or was changed, or is a link or no file. The rows of this run go to {table}. To have them in "
                "metrics.csv, move both away before a run."
            )
            # Made at once, so that later runs choose it too if this one is killed when the folder has a mark.
            with suppress(OSError):
                open(table, "xb").close()

    def log_metrics(self, metrics: Mapping[str, Any], step: int | None = None) -> None:
        if not self.writes:
            return
        # In a table that is shown in a terminal, a name must not act on it; and each row is one line.
        step, row = self.step_of(step), {printable(name): value for name, value in self.row_of(metrics).items()}
        # On both sides: it is the first column, and never what somebody has logged under this name.
        self._pending.append(({"step": step} | row | {"step": step}, self.trains))
        if self._behind is not None and self.trains:
            self._behind.log(step, row)
        # True for the first row; later ones are written in groups.
        if step >= self._flush_at:
            # First, so that on a full disk not every row is a try of its own.
            self._flush_at = step + self.flush_logs_every_n_steps
            self.save()

    def log_hyperparams(self, params: Mapping[str, Any]) -> None:
        if self.writes:
            with self.heard():
                update_hparams_file(self.log_dir, params)

    def save(self) -> None:
        if not self._pending and (self._behind is None or self._behind.passed == self._removed):
            return
        with self.heard(), writing(self.metrics_file):
            is_gone = (self._size is not None or self._behind is not None) and not self.metrics_file.exists()
            if is_gone:
                self.tell_removed(self.metrics_file)
                self._rows = self._behind = None
            if self._size is None:
                # By it a later run knows that the table is not somebody else's.
                make_mark(self.log_dir)
            self._write()
            self._size = self.metrics_file.stat().st_size
            # Only after the write: rows that could not be written stay pending.
            self._pending = []

    def _write(self) -> None:
        if self._behind is None:
            append_rows(self.metrics_file, [row for row, _ in self._pending], [of for _, of in self._pending])
            self._rows = None if self._rows is None else self._rows + len(self._pending)
            return
        passed = self._behind.passed
        self._rows = replace_rows(self.metrics_file, self._rows or 0, passed - self._removed, self._pending)
        self._removed = passed
        if self._behind.are_passed:
            self._behind = None

    def written(self) -> int:
        with self.heard():
            self.save()
        # Counted once and then kept up to date, since a checkpoint should not read the whole file. An evaluation in
        # another process may have written to it meanwhile.
        path = self.metrics_file
        with writing(path):
            if self._rows is None or (self._behind is None and size_of(path) != self._size):
                self._rows, self._size = count_rows(path), size_of(path)
        # Rows that could not be written will be the next ones.
        return self._rows + len(self._pending)

    @takes(Count)
    def cut_back(self, written: int) -> None:
        with self.heard(), writing(self.metrics_file):
            self._rows, behind = rows_behind(self.metrics_file, written)
            self._behind, self._removed = (RowsBehind(behind) if behind else None), 0

    def finalize(self, status: Status) -> None:
        if self._behind is not None and status == "success":
            self._behind.finish()
        try:
            self.save()
        finally:
            # Another run may follow, and another logger may have written to the file by then.
            self._flush_at, self._rows, self._size, self._behind = 0, None, None, None
