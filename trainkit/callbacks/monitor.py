"""Functions for callbacks that monitor a metric: argument checks, comparison of scores, the error if it is missing."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable
from typing import TYPE_CHECKING, Literal, NoReturn, get_args

import torch
from torch import Tensor

from trainkit.checks import one_of
from trainkit.errors import ConfigError, MetricError, nearest_name
from trainkit.metrics.collector import MetricCollector
from trainkit.printable import printable

if TYPE_CHECKING:
    from trainkit.trainer import Trainer

Mode = Literal["min", "max"]


def check_monitor(monitor: object, where: str) -> None:
    """Check that ``monitor`` is a name.

    Raises:
        ConfigError: If it is no string, or an empty one.
    """
    if not isinstance(monitor, str) or not monitor:
        raise ConfigError(f"{where}: monitor={monitor!r} must be the name of a logged metric, such as 'val/loss'.")


def check_mode(mode: str, where: str) -> None:
    """Check that ``mode`` is "min" or "max".

    Raises:
        UnknownNameError: If it is neither.
    """
    one_of("mode", mode, get_args(Mode), where)


def is_better(score: float | Tensor, than: float | Tensor, mode: Mode) -> bool:
    """Whether ``score`` is strictly better than ``than``. A NaN is not better than any score."""
    # Every comparison with NaN is false. bool() of a tensor waits for its device, so scores are kept on the CPU.
    return bool(score < than) if mode == "min" else bool(score > than)


def worst(mode: Mode) -> Tensor:
    """Return the score that every finite one beats: an infinity."""
    return as_score(torch.inf if mode == "min" else -torch.inf)


def as_score(value: float | Tensor) -> Tensor:
    """Return a metric as a float64 scalar on the CPU, whatever its dtype: what is added to it is not rounded either."""
    if isinstance(value, Tensor):
        # To the CPU first, as some devices have no float64.
        return value.detach().cpu().squeeze().double()
    return torch.tensor(value, dtype=torch.float64)


def missing_metric(monitor: str, available: Iterable[str], where: str, metrics: MetricCollector | None = None) -> str:
    """Return the message for a metric that was not logged, with those that were and what may have been meant.

    Args:
        monitor: The name that was asked for.
        available: The names that may be monitored.
        where: Who asks.
        metrics: Where what was logged is that cannot be monitored, at least not yet.
    """
    names = sorted(available)
    # Loggers also get values of single batches of an evaluation, by which nothing can be decided.
    logged, awaited = ((), ()) if metrics is None else (metrics.logged_metrics, metrics.awaited)
    near = near_misses(monitor, {*names, *logged})
    problem, to_do = f"no metric {monitor!r} has been logged.", f"self.log({monitor!r}, ...)"
    if monitor in awaited:
        near, problem = [], f"{monitor!r} has no value before the end of the epoch."
        to_do = f"self.log({monitor!r}, ..., on_step=True), or use it at the ends of epochs only"
    elif near and near[0] not in names:
        problem = f"{near[0]!r} has been logged for single batches only, by which nothing is decided."
        to_do = f"self.log({near[0]!r}, ..., on_epoch=True)"
        near = [name for name in near if _place(name) == _place(near[0])]
    near = [name for name in near if name in names]
    loaders = " There is one for each loader." if near and "/dataloader_idx_" in near[0].removeprefix(monitor) else ""
    return "\n".join(
        [
            f"{where}: {problem}",
            f"    logged       {', '.join(map(printable, names)) or '(none)'}",
            f"    did you mean {' or '.join(map(repr, near))}?{loaders}" if near else f"    to do        {to_do}",
        ]
    )


def refuse_missing(trainer: Trainer, monitor: str, available: Iterable[str], where: str) -> NoReturn:
    """Keep the state of the run, and raise `MetricError` for a metric that was not logged. Called on all ranks.

    The name is wrong, and not the epoch that has shown it: a run with the right one can go on from there.

    Args:
        trainer: Whose fit it is.
        monitor: The name that was asked for.
        available: The names that may be monitored.
        where: Who asks.
    """
    message = missing_metric(monitor, available, where, trainer.metrics)
    if not any(trainer.num_val_batches):
        message += "\n    note         nothing is validated: there are no validation batches"
    if trainer.last_checkpoint is not None:
        trainer.last_checkpoint.save_point(trainer)
    raise MetricError(message)


def near_misses(monitor: str, names: Iterable[str]) -> list[str]:
    """Return up to three names of what ``monitor`` may have meant, the likeliest first."""
    names = sorted(names)
    # Of another stage, for each batch or loader, or under another prefix: such names are not alike as text.
    same = [name for name in names if _core(name) == _core(monitor)]
    # Where there is the very metric, of one loader, batch or epoch, nothing else was meant.
    same = [name for name in same if _place(name) == _place(monitor)] or same
    same.sort(key=lambda name: (_other_stage(name, monitor), -difflib.SequenceMatcher(None, name, monitor).ratio()))
    nearest = nearest_name(monitor, names)
    return same[:3] or ([] if nearest is None else [nearest])


def _other_stage(name: str, monitor: str) -> bool:
    """Whether ``name`` says that it is of another stage than ``monitor``."""
    stages = [re.match(_STAGE, each.lower()) for each in (name, monitor)]
    # By the first letter, as "val" and "validation" are one.
    return len({stage.group()[0] for stage in stages if stage}) == 2


_STAGE = r"(train(ing)?|val(id(ation)?)?|test)[/_.-]"


def _place(name: str) -> str:
    """Return ``name`` without the loader, and without whether it is of a batch or of an epoch."""
    return re.sub(r"_(step|epoch)$", "", re.sub(r"/dataloader_idx_\d+$", "", name.lower()))


def _core(name: str) -> str:
    """Return ``name`` without what only says where it was logged: "loss" of "val/loss_epoch/dataloader_idx_0"."""
    name = _place(name)
    return re.sub(f"^{_STAGE}", "", name.rpartition("/")[2] or name)
