"""What callbacks that watch a metric share: which way is better, how a score is kept, what to say if it is missing."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal, get_args

import torch
from torch import Tensor

from trainkit.checks import one_of
from trainkit.errors import ConfigError, MetricError, nearest_name

Mode = Literal["min", "max"]


def check_monitor(monitor: object, where: str) -> None:
    """Refuse a monitor that is no name.

    Raises:
        ConfigError: If it is not a string with something in it.
    """
    if not isinstance(monitor, str) or not monitor:
        raise ConfigError(f"{where}: monitor={monitor!r} must be the name of a logged metric, such as 'val/loss'.")


def check_mode(mode: str, where: str) -> None:
    """Refuse a mode that does not exist.

    Raises:
        UnknownNameError: If it is neither "min" nor "max".
    """
    one_of("mode", mode, get_args(Mode), where)


def is_better(score: float | Tensor, than: float | Tensor, mode: Mode) -> bool:
    """Whether ``score`` is strictly better than another one; NaN is better than nothing."""
    return bool(score < than) if mode == "min" else bool(score > than)


def worst(mode: Mode) -> Tensor:
    """The score that every other one beats."""
    return torch.tensor(torch.inf if mode == "min" else -torch.inf)


def as_score(value: float | Tensor) -> Tensor:
    """Return a metric as a scalar on the CPU, in its own dtype; a plain number as float32 if that loses nothing."""
    if isinstance(value, Tensor):
        return value.detach().cpu().squeeze()
    score = torch.tensor(value, dtype=torch.float32)
    return score if value != value or score.item() == value else torch.tensor(value, dtype=torch.float64)


def missing_metric(monitor: str, available: Iterable[str], where: str) -> str:
    """Say that a metric was not logged, which ones were, and which of them may have been meant."""
    names = sorted(available)
    lines = [f"{where}: no metric {monitor!r} has been logged."]
    lines.append(f"    logged       {', '.join(names) or '(none)'}")
    nearest = nearest_name(monitor, names)
    lines += [f"    to do        self.log({monitor!r}, ...)" if nearest is None else f"    did you mean {nearest!r}?"]
    return "\n".join(lines)


def missing_metric_error(monitor: str, available: Iterable[str], where: str) -> MetricError:
    """Return the error for a metric that was not logged."""
    return MetricError(missing_metric(monitor, available, where))
