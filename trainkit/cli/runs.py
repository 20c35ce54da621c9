"""``trainkit runs``: lists runs that are on disk, by their best values, and compares them."""

from __future__ import annotations

import csv
import io
import json
import math
import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from trainkit.cli.configured import errors_as_messages
from trainkit.cli.text_table import text_table
from trainkit.errors import ConfigError, UnknownNameError
from trainkit.output import say
from trainkit.printable import printable

if TYPE_CHECKING:
    from trainkit.loggers.runs import RunOnDisk

_SHOWN = 4
"""So many metrics are shown where none is named."""


@click.command("runs", short_help="List the runs below a folder, and compare them.")
@click.argument("folder", type=click.Path())
@click.option("--metric", "names", multiple=True, metavar="NAME", help="Show a metric; the first sorts.")
@click.option("--max", "asked", flag_value="max", help="Show the largest value of each metric.")
@click.option("--min", "asked", flag_value="min", help="Show the smallest. The default is what the runs monitored.")
@click.option("--compare", is_flag=True, help="Show what differs between the runs: settings, then values.")
@click.option("--form", type=click.Choice(["table", "csv", "json"]), default="table", show_default=True)
@click.option("--json", "as_json", is_flag=True, help="Print JSON, as --form json does.")
def command(folder: str, names: tuple[str, ...], asked: str | None, compare: bool, form: str, as_json: bool) -> None:
    """List the runs below FOLDER, the newest first, or by the best value of a metric.

    A run has left metrics.csv, summary.json or run.json there. Of a metric that runs have monitored the best value is
    shown, of any other the last one, and the head of the column says which. Epochs count from 1, as in the bar.

    \b
    Examples:
      trainkit runs runs
      trainkit runs runs --metric val/accuracy --max
      trainkit runs runs --metric val/loss --compare
      trainkit runs runs --form csv > runs.csv
    """
    with errors_as_messages():
        from trainkit.loggers.runs import find_runs

        runs = find_runs(folder)
        if not runs:
            raise ConfigError(f"below {folder} there is no metrics.csv, summary.json or run.json of a run.")
        known = sorted({name for run in runs for name in run.metrics})
        for name in names:
            if name not in known:
                raise UnknownNameError("metric", name, known, f"trainkit runs {folder}")
        columns = {name: asked or _mode(runs, name) for name in names or _usual(known)}
        if names:
            runs = _sorted(runs, names[0], columns[names[0]])
        form = "json" if as_json else form
        rows = _compared(runs, columns, folder) if compare else _listed(runs, columns, folder, form)
        _print(list(rows), form)


def _usual(known: Sequence[str]) -> list[str]:
    """Return the metrics that are shown where none is named: of validations, if there are any."""
    validated = [name for name in known if name.startswith("val")]
    return (validated or list(known))[:_SHOWN]


def _mode(runs: Sequence[RunOnDisk], name: str) -> str:
    """Return which value of a metric is shown: the best if runs have monitored it, and all by one mode."""
    found = {run.modes[name] for run in runs if name in run.modes}
    return found.pop() if len(found) == 1 else "last"


def _sorted(runs: list[RunOnDisk], name: str, mode: str) -> list[RunOnDisk]:
    if mode == "last":
        say(
            f"note: which value of {printable(name)} is best is not known, since no run has monitored it, or not all "
            "by one mode: the newest run comes first. --min or --max says it.",
            err=True,
        )
        return runs
    return sorted(runs, key=lambda run: _rank(_value(run, name, mode), mode))


def _rank(value: float | None, mode: str) -> tuple[bool, float]:
    return value is None, 0.0 if value is None else -value if mode == "max" else value


def _value(run: RunOnDisk, name: str, mode: str) -> float | None:
    found = run.metrics.get(name)
    if found is None:
        return None
    return {"last": found.last, "min": found.least, "max": found.greatest}[mode]


def _name(run: RunOnDisk, folder: str) -> str:
    return str(run.folder.relative_to(Path(folder)))


def _listed(runs: Sequence[RunOnDisk], columns: Mapping[str, str], folder: str, form: str) -> Iterator[dict[str, Any]]:
    for run in runs:
        values = {name: _value(run, name, mode) for name, mode in columns.items()}
        # Programs find a metric by its own name.
        told = values if form == "json" else {_head(name, columns[name]): value for name, value in values.items()}
        yield {
            "run": _name(run, folder),
            "epoch": None if run.epoch is None else run.epoch + 1,
            "step": run.step,
            "ended": run.ended,
            **told,
            "written": time.strftime("%Y-%m-%d %H:%M", time.localtime(run.changed_at)),
            **({"shown": dict(columns)} if form == "json" else {}),
        }


def _compared(runs: Sequence[RunOnDisk], columns: Mapping[str, str], folder: str) -> Iterator[dict[str, Any]]:
    """Yield a row for each setting that is not the same in all runs, then one for each metric."""
    keys = sorted({key for run in runs for key in run.settings})
    for key in keys:
        values = [run.settings.get(key) for run in runs]
        if any(value != values[0] for value in values):
            yield {"": key} | {_name(run, folder): value for run, value in zip(runs, values, strict=True)}
    for name, mode in columns.items():
        yield {"": _head(name, mode)} | {_name(run, folder): _value(run, name, mode) for run in runs}


def _head(name: str, mode: str) -> str:
    return f"{name} ({mode})"


def _print(rows: list[dict[str, Any]], form: str) -> None:
    names = list(rows[0]) if rows else []
    if form == "json":
        plain = [{name: _plain(value) for name, value in row.items()} for row in rows]
        click.echo(json.dumps(plain, indent=2, default=str))
    elif form == "csv":
        buffer = io.StringIO()
        writer = csv.DictWriter(buffer, names, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
        click.echo(buffer.getvalue().rstrip("\n"))
    else:
        cells = [names, *([_text(row.get(name)) for name in names] for row in rows)]
        for line in text_table(cells, shutil.get_terminal_size().columns):
            click.echo(line)


def _plain(value: Any) -> Any:
    """Return a number that JSON lacks as text, as in ``summary.json``."""
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value


def _text(value: Any) -> str:
    if value is None:
        return "-"
    return f"{value:.6g}" if isinstance(value, float) else str(value)
