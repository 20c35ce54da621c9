"""What came of a fit: how it has ended, how far it came, its best values, and where its checkpoints are."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from trainkit.callbacks.builtin.why_ended import Ending, why_interrupted
from trainkit.hooks.attribution import in_one_line
from trainkit.loggers.csv import CSVLogger
from trainkit.loggers.logger import loggers_of
from trainkit.loggers.run_table import MetricSummary, RunTable, read_table
from trainkit.storage.files import checkpoint_exists
from trainkit.storage.remote import is_remote

if TYPE_CHECKING:
    from trainkit.trainer import Trainer

_LONGEST_MESSAGE = 2000

_BLAME = re.compile(r"in plugin '(.*?)' \(")
"""How the note begins that `trainkit.hooks.attribution` puts on an error."""


class Outcome(NamedTuple):
    """How a fit has ended.

    Attributes:
        ending: Why.
        error: Of an error ``type``, ``message`` and the ``plugin`` that has raised it; None if there was none.
    """

    ending: Ending
    error: Mapping[str, str | None] | None = None


def outcome_of_error(trainer: Trainer, error: BaseException) -> Outcome:
    """Return how ``error`` has ended the fit of ``trainer``, in nothing that holds on to it."""
    ending = why_interrupted(trainer, error)
    if ending.status != "failed":
        return Outcome(ending)
    kind = type(error)
    notes = (_BLAME.match(note) for note in getattr(error, "__notes__", ()))
    told = {
        "type": f"{kind.__module__}.{kind.__qualname__}".removeprefix("builtins."),
        "message": in_one_line(error)[:_LONGEST_MESSAGE],
        "plugin": next((match[1] for match in notes if match), None),
    }
    return Outcome(ending, told)


def summary_of(trainer: Trainer, folder: Path, outcome: Outcome, times: Mapping[str, str]) -> dict[str, Any]:
    """Return what ``summary.json`` in ``folder`` says of the fit of ``trainer``, whose loggers have written all.

    Args:
        trainer: The Trainer.
        folder: The folder of the run, from which paths of checkpoints in it are told.
        outcome: How the fit has ended.
        times: When it was started and when it ended.
    """
    progress, keeper = trainer.progress, trainer.last_checkpoint
    last = keeper.path if keeper is not None and keeper.path and checkpoint_exists(keeper.path) else None
    return {
        "status": outcome.ending.status,
        "reason": outcome.ending.reason,
        "error": outcome.error,
        **times,
        "epochs": progress.epoch,
        "steps": progress.global_step,
        "seconds": round(progress.elapsed_s, 3),
        "metrics": dict(_metrics(trainer)),
        "best_checkpoints": list(_best_checkpoints(trainer, folder)),
        "last_checkpoint": _within(last, folder),
    }


def _metrics(trainer: Trainer) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield the values of each metric, from the table, which has those from before the run went on as well."""
    logger = next((each for each in loggers_of(trainer) if isinstance(each, CSVLogger)), None)
    table = None if logger is None else _table(logger)
    if logger is None or table is None:
        for name, value in trainer.logged_metrics.items():
            yield name, {"last": value.item()}
        return
    modes = _modes(trainer)
    before = f"{logger.prefix}-" if logger.prefix else ""
    for name, values in table.metrics.items():
        yield name, _told(values, modes.get(name.removeprefix(before)))


def _table(logger: CSVLogger) -> RunTable | None:
    with suppress(ValueError):  # somebody has spoiled it
        return read_table(logger.metrics_file)
    return None


def _modes(trainer: Trainer) -> dict[str, str]:
    """Return, of each metric that is monitored, whether its best value is the ``min`` or the ``max``.

    One that is monitored in both ways is left out: which of them is best depends on whom one asks.
    """
    found: dict[str, set[str]] = {}
    for stopper in trainer.early_stopping_callbacks:
        found.setdefault(stopper.monitor, set()).add(stopper.mode)
    for saver in trainer.checkpoint_callbacks:
        if saver.monitor is not None:
            found.setdefault(saver.monitor, set()).add(saver.mode)
    return {name: next(iter(modes)) for name, modes in found.items() if len(modes) == 1}


def _told(values: MetricSummary, mode: str | None) -> dict[str, Any]:
    least, greatest = (values.least, values.least_at), (values.greatest, values.greatest_at)
    if mode is not None:
        best, step = least if mode == "min" else greatest
        return {"last": values.last, "mode": mode, "best": best, "best_step": step}
    return {
        "last": values.last,
        **{"min": least[0], "min_step": least[1]},
        **{"max": greatest[0], "max_step": greatest[1]},
    }


def _best_checkpoints(trainer: Trainer, folder: Path) -> Iterator[dict[str, Any]]:
    for saver in trainer.checkpoint_callbacks:
        if saver.best_model_path:
            score = saver.best_model_score
            yield {
                "path": _within(saver.best_model_path, folder),
                "monitor": saver.monitor,
                "score": None if score is None else score.item(),
            }


def _within(path: str | None, folder: Path) -> str | None:
    """Return ``path`` as seen from ``folder``, if it is in there: that folder may be moved as a whole."""
    if path is None or is_remote(path):
        return path
    relative = os.path.relpath(os.path.realpath(path), os.path.realpath(folder))
    return path if relative.startswith(os.pardir) else relative
