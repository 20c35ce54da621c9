"""The table of a run, ``metrics.csv``, as it is read: the newest step and epoch, and what became of each metric."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from trainkit.storage.regular import open_regular


@dataclass(slots=True)
class MetricSummary:
    """The values of one metric over a run.

    Attributes:
        last: The newest, which need not be finite.
        least: The smallest of the finite ones; None if there is none.
        greatest: The largest, likewise.
        least_at: The step of the smallest.
        greatest_at: The step of the largest.
    """

    last: float = math.nan
    least: float | None = None
    greatest: float | None = None
    least_at: int | None = None
    greatest_at: int | None = None

    def add(self, value: float, step: int) -> None:
        """Take the value of a later row."""
        self.last = value
        if not math.isfinite(value):
            return
        if self.least is None or value < self.least:
            self.least, self.least_at = value, step
        if self.greatest is None or value > self.greatest:
            self.greatest, self.greatest_at = value, step


@dataclass(slots=True)
class RunTable:
    """What the rows of a run say.

    Attributes:
        step: The step of the newest row.
        epoch: The epoch of that, counted from 0; None if it has none.
        metrics: What was logged, by name.
    """

    step: int = 0
    epoch: int | None = None
    metrics: dict[str, MetricSummary] = field(default_factory=dict)


def read_table(path: Path) -> RunTable | None:
    """Return what the rows in the file at ``path`` say; None if there is no file, or one of no run.

    Raises:
        ValueError: If a run has written it, and it is spoiled.
    """
    try:
        with open_regular(path) as file:
            text = file.read().decode(errors="replace")
    except OSError:
        return None
    try:
        rows = csv.DictReader(io.StringIO(text, newline=""))
        names = rows.fieldnames or ()
        if "step" not in names:
            return None
        table, epoch = RunTable(), _epoch_among(names)
        for row in rows:
            _add(table, row, epoch)
    except csv.Error as error:
        raise ValueError(str(error)) from error
    return table


def _add(table: RunTable, row: dict[str, Any], epoch: str) -> None:
    table.step = _whole(row, "step", table.step)
    table.epoch = _whole(row, epoch, table.epoch)
    for name, text in row.items():
        # What stands behind the last column has no name.
        if isinstance(name, str) and name not in ("step", epoch) and (value := number(text)) is not None:
            table.metrics.setdefault(name, MetricSummary()).add(value, table.step)


def _epoch_among(names: Sequence[str]) -> str:
    """Return the name of the column of epochs, before which a logger puts its prefix as it does before all others."""
    others = [name for name in names if name != "step"]
    for name in others:
        prefix, is_one, _ = name.rpartition("epoch")
        if is_one and name.endswith("-epoch") and all(other.startswith(prefix) for other in others):
            return name
    return "epoch"


def _whole(row: dict[str, Any], name: str, default: Any) -> Any:
    value = number(row.get(name))
    if value is None:
        return default
    if not math.isfinite(value):
        raise ValueError(f"a {name} in it is {value}")
    return int(value)


def number(value: object) -> float | None:
    """Return what a file says as a number; None if that is none."""
    try:
        return float(value)  # type: ignore[arg-type]  # whatever it is
    except (TypeError, ValueError, OverflowError):
        return None
