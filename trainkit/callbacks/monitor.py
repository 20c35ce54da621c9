"""Functions for callbacks that monitor a metric: argument checks, comparison of scores, the error if it is missing."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal, get_args

import torch
from torch import Tensor

from trainkit.checks import one_of
from trainkit.errors import ConfigError, MetricError, nearest_name

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


def missing_metric(monitor: str, available: Iterable[str], where: str) -> str:
    """Return the message for a metric that was not logged, with those that were and the nearest spelling."""
    names = sorted(available)
    lines = [f"{where}: no metric {monitor!r} has been logged."]
    lines.append(f"    logged       {', '.join(names) or '(none)'}")
    nearest = nearest_name(monitor, names)
    lines += [f"    to do        self.log({monitor!r}, ...)" if nearest is None else f"    did you mean {nearest!r}?"]
    return "\n".join(lines)


def missing_metric_error(monitor: str, available: Iterable[str], where: str) -> MetricError:
    """Return the error for a metric that was not logged."""
    return MetricError(missing_metric(monitor, available, where))
