"""Runs that are on disk: what each was made with, and the rows that it has logged."""

from __future__ import annotations

import csv
import math
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from trainkit.record.summary import ended, summary_in
from trainkit.storage.regular import open_regular

_TABLES = ("metrics.csv", "metrics-v1.csv")
_SETTINGS = ("config.yaml", "hparams.yaml")
"""Where the settings of a run are, the fuller one first."""


@dataclass(slots=True)
class MetricSummary:
    """The values of one metric over a run.

    Attributes:
        last: The newest.
        least: The smallest, NaN left out.
        greatest: The largest, likewise.
        least_at: The step of the smallest.
        greatest_at: The step of the largest.
    """

    last: float = math.nan
    least: float = math.inf
    greatest: float = -math.inf
    least_at: int = 0
    greatest_at: int = 0

    def add(self, value: float, step: int) -> None:
        """Take the value of a later row."""
        self.last = value
        if value < self.least:
            self.least, self.least_at = value, step
        if value > self.greatest:
            self.greatest, self.greatest_at = value, step


@dataclass(frozen=True, slots=True)
class RunOnDisk:
    """A folder in which a run has logged.

    Attributes:
        folder: The folder.
        step: The step of its newest row.
        epoch: The epoch of that; None if it has none.
        changed_at: When its table was written last, in seconds since 1970.
        metrics: What it has logged, by name.
        settings: What it was made with, by key paths such as ``module.lr``.
        ended: How it has ended, in one word of ``summary.json``; ``running`` or ``killed`` where it has not; None if
            nothing tells.
    """

    folder: Path
    step: int
    epoch: int | None
    changed_at: float
    metrics: dict[str, MetricSummary] = field(default_factory=dict)
    settings: dict[str, Any] = field(default_factory=dict)
    ended: str | None = None


def find_runs(root: str | os.PathLike[str]) -> Iterator[RunOnDisk]:
    """Yield the runs below a folder, at any depth, the newest first. What is no table of a run is passed over."""
    tables = [path for name in _TABLES for path in Path(root).rglob(name) if path.is_file()]
    for table in sorted(tables, key=lambda path: (path.stat().st_mtime, str(path)), reverse=True):
        run = read_run(table)
        if run is not None:
            yield run


def read_run(table: Path) -> RunOnDisk | None:
    """Return the run that has written the rows in the file ``table``; None if these are of no run."""
    try:
        with open_regular(table) as file:
            text = file.read().decode(errors="replace")
    except OSError:
        return None
    rows = csv.DictReader(text.splitlines())
    if "step" not in (rows.fieldnames or ()):
        return None
    step, epoch = 0, None
    metrics: dict[str, MetricSummary] = {}
    for row in rows:
        step = int(_number(row["step"], step))
        for name, value in row.items():
            number = _number(value, None) if isinstance(name, str) else None
            if number is None or name == "step":
                continue
            if name == "epoch":
                epoch = int(number)
            else:
                metrics.setdefault(name, MetricSummary()).add(number, step)
    folder = table.parent
    return RunOnDisk(folder, step, epoch, table.stat().st_mtime, metrics, _settings(folder), ended(summary_in(folder)))


def _number(text: Any, default: Any) -> Any:
    try:
        return float(text)
    except (TypeError, ValueError):
        return default


def _settings(folder: Path) -> dict[str, Any]:
    from trainkit.storage.yaml_text import load_yaml

    for name in _SETTINGS:
        try:
            with open_regular(folder / name) as file:
                found: Any = load_yaml(file.read().decode())
        except (OSError, ValueError):
            continue
        return dict(_flat(found))
    return {}


def _flat(value: Any, above: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(value, dict) and value:
        for name, item in value.items():
            yield from _flat(item, f"{above}.{name}" if above else str(name))
    elif above:
        yield above, value
