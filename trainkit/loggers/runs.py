"""Runs that are on disk: what each was made with, what it has logged, and how it has ended."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from trainkit.loggers.run_table import MetricSummary, RunTable, number, read_table
from trainkit.output import say
from trainkit.printable import printable
from trainkit.record.starts import starts_in
from trainkit.record.summary import ended, summary_in
from trainkit.storage.regular import open_regular

_FILES = re.compile(r"(metrics(-v\d+)?\.csv|(summary|run)(-v\d+)?\.json)")
"""By which a folder may be that of a run."""

_SETTINGS = (("config", ".yaml"), ("hparams", ".yaml"))
"""Where the settings of a run are, the fuller one first."""


@dataclass(frozen=True, slots=True)
class RunOnDisk:
    """A folder in which a run has left what it has logged, or how it has ended.

    Attributes:
        folder: The folder.
        step: The step of its newest row.
        epoch: The epoch of that, counted from 0; None if it has none.
        changed_at: When its table was written last, in seconds since 1970; without one, its record.
        metrics: What it has logged, by name.
        modes: Whether ``"min"`` or ``"max"`` is best, of each metric that it has monitored.
        settings: What it was made with, by key paths such as ``module.lr``.
        ended: How it has ended, in one word of ``summary.json``; ``running`` or ``killed`` where it has not; None if
            nothing tells.
    """

    folder: Path
    step: int
    epoch: int | None
    changed_at: float
    metrics: dict[str, MetricSummary] = field(default_factory=dict)
    modes: dict[str, str] = field(default_factory=dict)
    settings: dict[str, Any] = field(default_factory=dict)
    ended: str | None = None


def find_runs(root: str | os.PathLike[str]) -> list[RunOnDisk]:
    """Return the runs below a folder, at any depth, the newest first.

    What is of no run is passed over. A run whose table is spoiled is left out as well, which a line on stderr says.
    """
    found: list[RunOnDisk] = []
    for folder, _, names in os.walk(root):
        if any(map(_FILES.fullmatch, names)):
            try:
                run = read_run(Path(folder))
            except ValueError as error:
                say(f"note: {printable(folder)} is left out, since its table is spoiled: {printable(error)}", err=True)
                continue
            found += [] if run is None else [run]
    return sorted(found, key=lambda run: (run.changed_at, str(run.folder)), reverse=True)


def read_run(folder: Path) -> RunOnDisk | None:
    """Return the run that has written into ``folder``; None if none has.

    Raises:
        ValueError: If its table is spoiled.
    """
    summary = summary_in(folder)
    path, table = _table(folder)
    if table is None:
        if not summary and not starts_in(folder):
            return None
        table = _table_of(summary)
    modes = {name: values["mode"] for name, values in _metrics(summary) if values.get("mode") in ("min", "max")}
    changed_at = _changed_at([path] if path is not None else _versions(folder, "summary", ".json", "run"))
    return RunOnDisk(
        folder, table.step, table.epoch, changed_at, table.metrics, modes, _settings(folder), ended(summary)
    )


def _table(folder: Path) -> tuple[Path | None, RunTable | None]:
    """Return the newest table of a run, and where it is: those before it are of somebody else."""
    for path in _versions(folder, "metrics", ".csv"):
        if (table := read_table(path)) is not None:
            return path, table
    return None, None


def _table_of(summary: Mapping[str, Any]) -> RunTable:
    """Return what a summary says of a run that has no table."""
    steps, epochs = (found if type(found := summary.get(name)) is int else 0 for name in ("steps", "epochs"))
    table = RunTable(steps, epochs - 1 if epochs else None)
    for name, values in _metrics(summary):
        best = {str(values.get("mode")): values.get("best")}
        least, greatest = (number(values.get(mode, best.get(mode))) for mode in ("min", "max"))
        last = number(values.get("last"))
        table.metrics[name] = MetricSummary(float("nan") if last is None else last, least, greatest)
    return table


def _metrics(summary: Mapping[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    found = summary.get("metrics")
    for name, values in found.items() if isinstance(found, dict) else ():
        if isinstance(values, dict):
            yield name, values


def _changed_at(paths: list[Path]) -> float:
    return max((path.stat().st_mtime for path in paths if path.is_file()), default=0.0)


def _versions(folder: Path, name: str, suffix: str, *others: str) -> list[Path]:
    """Return the files ``name.suffix``, ``name-v1.suffix`` and so on in ``folder``, the newest first."""
    pattern = re.compile(rf"(?:{'|'.join((name, *others))})(?:-v(\d+))?{re.escape(suffix)}")
    found = {path: match for path in folder.iterdir() if (match := pattern.fullmatch(path.name))}
    return sorted(found, key=lambda path: (int(found[path][1] or 0), path.name), reverse=True)


def _settings(folder: Path) -> dict[str, Any]:
    from trainkit.storage.yaml_text import load_yaml

    # A run that goes on with another configuration has written another file.
    for path in (path for name, suffix in _SETTINGS for path in _versions(folder, name, suffix)):
        try:
            with open_regular(path) as file:
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
