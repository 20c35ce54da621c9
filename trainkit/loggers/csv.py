"""The CSV logger: metrics as a table in a text file."""

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

    Each row of metrics is one line, with a cell left empty where the row has no such metric. Rows are appended to a
    file that exists already.

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
        self._rows: int | None = None  # in the file; None if they have not been counted

    @property
    def metrics_file(self) -> Path:
        """The path of the table."""
        return Path(self.log_dir, "metrics.csv")

    def log_metrics(self, metrics: Mapping[str, Any], step: int | None = None) -> None:
        if not self.writes:
            return
        step = self.step_of(step)
        self._pending.append({"step": step, **self.row_of(metrics)})
        # True for the first row; later ones are written in groups.
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
        # Only after the write: rows that could not be written stay pending.
        if self._rows is not None:
            self._rows += len(self._pending)
        self._pending = []

    def written(self) -> int:
        self.save()
        # Counted once and then kept up to date: a checkpoint should not read the whole file.
        if self._rows is None:
            self._rows = count_rows(self.metrics_file)
        return self._rows

    def cut_back(self, written: int) -> None:
        self._rows = None
        with writing(self.metrics_file):
            keep_rows(self.metrics_file, written)

    def finalize(self, status: Status) -> None:
        self.save()
        # Another run may follow, and another logger may have written to the file by then.
        self._flush_at, self._rows = 0, None


def append_rows(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Append ``rows`` to the table at ``path``; columns that it does not have yet are added on the right."""
    path.parent.mkdir(parents=True, exist_ok=True)
    header = _repaired_header(path)
    # A dict keeps the order of first appearance: old columns stay where they are.
    columns = list(dict.fromkeys([*header, *FIRST_COLUMNS, *(name for row in rows for name in row)]))
    if columns != header:
        _add_columns(path, columns)
    with open(path, "a", newline="", encoding="utf-8") as file:
        csv.writer(file, lineterminator="\n").writerows([row.get(name, "") for name in columns] for row in rows)


def count_rows(path: Path) -> int:
    """Return how many rows the table at ``path`` has; 0 if there is none."""
    try:
        with open(path, newline="", encoding="utf-8") as file:
            # Rows, not lines: a quoted name of a metric may hold line ends. The first row is the header.
            return max(0, sum(1 for _ in csv.reader(file)) - 1)
    except FileNotFoundError:
        return 0


def keep_rows(path: Path, number: int) -> None:
    """Remove all rows but the first ``number``. A kill in between leaves the old table or the new one."""
    if count_rows(path) <= number:
        return
    with _replacing(path) as (rows, table):
        table.writerows(itertools.islice(rows, number + 1))


def _repaired_header(path: Path) -> list[str]:
    """Return the names of the columns, after removing a last line that a kill left without its end."""
    path.touch()
    # Half of "0.25" is "0.2", which nobody would recognise as damaged, and the next row would be glued to it.
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
        next(rows, None)  # the old header
        table.writerow(columns)
        table.writerows(row + [""] * (len(columns) - len(row)) for row in rows)


@contextmanager
def _replacing(path: Path) -> Iterator[tuple[Iterator[list[str]], Any]]:
    """Yield the rows of the table at ``path``, header first, and a writer of the table that replaces it at the end."""
    temporary = path.with_name(f".{path.name}.tmp")
    with (
        open(path, newline="", encoding="utf-8") as old,
        open(temporary, "w", newline="", encoding="utf-8") as new,
    ):
        yield csv.reader(old), csv.writer(new, lineterminator="\n")
    # Reached only if nothing was raised, and atomic: readers find the old table or the whole new one.
    os.replace(temporary, path)
