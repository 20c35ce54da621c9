"""``trainkit runs``: lists runs that are on disk, by their best values, and compares them."""

from __future__ import annotations

import csv
import io
import json
import math
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from trainkit.cli.configured import errors_as_messages
from trainkit.errors import ConfigError, UnknownNameError
from trainkit.printable import printable

if TYPE_CHECKING:
    from trainkit.loggers.runs import RunOnDisk

_SHOWN = 4
"""So many metrics are shown where none is named."""


@click.command("runs", short_help="List the runs below a folder, and compare them.")
@click.argument("folder", type=click.Path())
@click.option("--metric", "names", multiple=True, metavar="NAME", help="Show the best of a metric; the first sorts.")
@click.option("--max", "greatest", is_flag=True, help="The best value is the largest. The default is the smallest.")
@click.option("--compare", is_flag=True, help="Show what differs between the runs: settings, then best values.")
@click.option("--form", type=click.Choice(["table", "csv", "json"]), default="table", show_default=True)
def command(folder: str, names: tuple[str, ...], greatest: bool, compare: bool, form: str) -> None:
    """List the runs whose metrics.csv is below FOLDER, the newest first, or by the best value of a metric.

    \b
    Examples:
      trainkit runs runs
      trainkit runs runs --metric val/accuracy --max
      trainkit runs runs --metric val/loss --compare
      trainkit runs runs --form csv > runs.csv
    """
    with errors_as_messages():
        from trainkit.loggers.runs import find_runs

        runs = list(find_runs(folder))
        if not runs:
            raise ConfigError(f"below {folder} there is no metrics.csv of a run.")
        known = sorted({name for run in runs for name in run.metrics})
        for name in names:
            if name not in known:
                raise UnknownNameError("metric", name, known, f"trainkit runs {folder}")
        if names:
            runs.sort(key=lambda run: _rank(run, names[0], greatest))
        columns = names or _usual(known)
        rows = list(_compared(runs, columns, folder, greatest) if compare else _listed(runs, columns, folder, greatest))
        _print(rows, form)


def _usual(known: Sequence[str]) -> list[str]:
    """Return the metrics that are shown where none is named: of validations, if there are any."""
    validated = [name for name in known if name.startswith("val")]
    return (validated or list(known))[:_SHOWN]


def _best(run: RunOnDisk, name: str, greatest: bool) -> float | None:
    found = run.metrics.get(name)
    if found is None:
        return None
    value = found.greatest if greatest else found.least
    return value if math.isfinite(value) else found.last


def _rank(run: RunOnDisk, name: str, greatest: bool) -> tuple[bool, float]:
    value = _best(run, name, greatest)
    is_lost = value is None or math.isnan(value)
    return is_lost, 0.0 if is_lost or value is None else -value if greatest else value


def _name(run: RunOnDisk, folder: str) -> str:
    return str(run.folder.relative_to(Path(folder)))


def _listed(runs: Sequence[RunOnDisk], columns: Sequence[str], folder: str, greatest: bool) -> Iterator[dict[str, Any]]:
    for run in runs:
        yield {
            "run": _name(run, folder),
            "epoch": run.epoch,
            "step": run.step,
            "ended": run.ended,
            "written": time.strftime("%Y-%m-%d %H:%M", time.localtime(run.changed_at)),
            **{name: _best(run, name, greatest) for name in columns},
        }


def _compared(
    runs: Sequence[RunOnDisk], columns: Sequence[str], folder: str, greatest: bool
) -> Iterator[dict[str, Any]]:
    """Yield a row for each setting that is not the same in all runs, then one for each metric."""
    keys = sorted({key for run in runs for key in run.settings})
    for key in keys:
        values = [run.settings.get(key) for run in runs]
        if any(value != values[0] for value in values):
            yield {"": key} | {_name(run, folder): value for run, value in zip(runs, values, strict=True)}
    for name in columns:
        yield {"": name} | {_name(run, folder): _best(run, name, greatest) for run in runs}


def _print(rows: list[dict[str, Any]], form: str) -> None:
    if form == "json":
        click.echo(json.dumps(rows, indent=2, default=str))
        return
    names = list(rows[0]) if rows else []
    if form == "csv":
        buffer = io.StringIO()
        writer = csv.DictWriter(buffer, names, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
        click.echo(buffer.getvalue().rstrip("\n"))
        return
    cells = [names, *([_text(row.get(name)) for name in names] for row in rows)]
    widths = [max(len(printable(line[at])) for line in cells) for at in range(len(names))]
    for line in cells:
        click.echo("  ".join(f"{printable(text):<{width}}" for text, width in zip(line, widths, strict=True)).rstrip())


def _text(value: Any) -> str:
    if value is None:
        return "-"
    return f"{value:.6g}" if isinstance(value, float) else str(value)
