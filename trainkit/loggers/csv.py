"""Metrics as a table in a text file."""

from __future__ import annotations

import csv
import itertools
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar

from trainkit.checks import whole
from trainkit.loggers.hparams_yaml import update_hparams_file
from trainkit.loggers.logger import Logger, Status
from trainkit.loggers.run_folder import writing

FIRST_COLUMNS = ("step", "epoch")


class CSVLogger(Logger):
    """Writes ``metrics.csv`` and ``hparams.yaml``.

    Each row of metrics is one line, with a cell left empty where the row has no such metric. A file that is there
    already is continued.

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

    shares_folder: ClassVar[bool] = False

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
        self._pending: list[dict[str, Any]] = []
        self._flush_at = 0
        self._rows: int | None = None  # in the file; None until that is asked for

    @property
    def metrics_file(self) -> Path:
        """Where the table is."""
        return Path(self.log_dir, "metrics.csv")

    def log_metrics(self, metrics: Mapping[str, Any], step: int | None = None) -> None:
        if not self.writes:
            return
        step = self.step_of(step)
        self._pending.append({"step": step, **self.row_of(metrics)})
        if step >= self._flush_at:
            self.save()
            self._flush_at = step + self.flush_logs_every_n_steps

    def log_hyperparams(self, params: Mapping[str, Any]) -> None:
        if self.writes:
            update_hparams_file(self.log_dir, params)

    def save(self) -> None:
        if not self._pending:
            return
        with writing(self.metrics_file):
            append_rows(self.metrics_file, self._pending)
        if self._rows is not None:
            self._rows += len(self._pending)
        self._pending = []

    def written(self) -> int:
        self.save()
        if self._rows is None:
            self._rows = count_rows(self.metrics_file)
        return self._rows

    def cut_back(self, written: int) -> None:
        self._rows = None
        with writing(self.metrics_file):
            keep_rows(self.metrics_file, written)

    def finalize(self, status: Status) -> None:
        self.save()
        self._flush_at, self._rows = 0, None


def append_rows(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Add ``rows`` to the table at ``path``, which gains the columns that it lacks."""
    path.parent.mkdir(parents=True, exist_ok=True)
    header = _mended_header(path)
    columns = list(dict.fromkeys([*header, *FIRST_COLUMNS, *(name for row in rows for name in row)]))
    if columns != header:
        _add_columns(path, columns)
    with open(path, "a", newline="", encoding="utf-8") as file:
        csv.writer(file, lineterminator="\n").writerows([row.get(name, "") for name in columns] for row in rows)


def count_rows(path: Path) -> int:
    """Return how many rows the table at ``path`` has; 0 if there is none."""
    try:
        with open(path, newline="", encoding="utf-8") as file:
            return max(0, sum(1 for _ in csv.reader(file)) - 1)
    except FileNotFoundError:
        return 0


def keep_rows(path: Path, number: int) -> None:
    """Drop all rows behind the first ``number`` ones. A kill leaves the old table or the new one."""
    if count_rows(path) <= number:
        return
    with _replacing(path) as (rows, table):
        table.writerows(itertools.islice(rows, number + 1))


def _mended_header(path: Path) -> list[str]:
    """Return the names of the columns; a last line without an end is cut off: half a number would pass for a number."""
    path.touch()
    with open(path, "rb+") as file:
        end = size = file.seek(0, os.SEEK_END)
        while end and (file.seek(end - 1), file.read(1))[1] != b"\n":
            end -= 1
        if end < size:
            file.truncate(end)
    with open(path, newline="", encoding="utf-8") as file:
        return next(csv.reader(file), [])


def _add_columns(path: Path, columns: Sequence[str]) -> None:
    """Widen the table to ``columns``, which begin with those it has."""
    with _replacing(path) as (rows, table):
        next(rows, None)
        table.writerow(columns)
        table.writerows(row + [""] * (len(columns) - len(row)) for row in rows)


@contextmanager
def _replacing(path: Path) -> Iterator[tuple[Iterator[list[str]], Any]]:
    """Give the rows of the table at ``path``, header first, and a writer of the one that takes its place at the end."""
    temporary = path.with_name(f".{path.name}.tmp")
    with (
        open(path, newline="", encoding="utf-8") as old,
        open(temporary, "w", newline="", encoding="utf-8") as new,
    ):
        yield csv.reader(old), csv.writer(new, lineterminator="\n")
    os.replace(temporary, path)
