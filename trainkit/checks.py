"""Checks of arguments: whole numbers, flags, shares, durations. Each raises an error that says what is allowed."""

from __future__ import annotations

import math
from datetime import timedelta
from typing import Any

from trainkit.errors import ConfigError

Duration = str | timedelta | dict[str, float]


def whole(name: str, value: Any, *, at_least: int = 0, optional: bool = False) -> None:
    """Raise `ConfigError` unless ``value`` is a whole number of at least ``at_least``."""
    if value is None and optional:
        return
    if isinstance(value, bool) or not isinstance(value, int) or value < at_least:
        allowed = f"a whole number of at least {at_least}" + (", or None" if optional else "")
        no_limit = " (-1 means no limit)" if at_least == -1 else ""
        raise ConfigError(f"{name}={value!r} is not usable. Allowed: {allowed}{no_limit}.")


def flag(name: str, value: Any) -> None:
    """Raise `ConfigError` unless ``value`` is True or False."""
    if not isinstance(value, bool):
        raise ConfigError(f"{name}={value!r} is not usable. Allowed: True or False.")


def share(where: str, name: str, value: Any) -> None:
    """Raise `ConfigError` unless ``value`` is a number of batches (int) or a share of them (float from 0 to 1)."""
    is_count = isinstance(value, int) and not isinstance(value, bool) and value >= 0
    is_share = isinstance(value, float) and 0.0 <= value <= 1.0
    if not (is_count or is_share):
        hint = (
            f" Did you mean {name}={int(value)}?"
            if isinstance(value, float) and value > 1 and value == int(value)
            else ""
        )
        raise ConfigError(
            f"{name}={value!r} is not usable. Allowed: a number of batches (int), or a share of them (float from 0.0 "
            f"to 1.0).{hint}"
        )


def seconds(name: str, value: Duration | None) -> float:
    """Return a duration in seconds: "DD:HH:MM:SS", a timedelta, or its arguments as a dict. None is infinite.

    Raises:
        ConfigError: If ``value`` is none of these.
    """
    if value is None:
        return math.inf
    try:
        if isinstance(value, str):
            days, hours, minutes, secs = (int(part) for part in value.split(":"))
            value = timedelta(days=days, hours=hours, minutes=minutes, seconds=secs)
        elif isinstance(value, dict):
            value = timedelta(**value)
        return value.total_seconds()
    except (ValueError, TypeError, AttributeError) as error:
        raise ConfigError(
            f"{name}={value!r} is not a duration. Allowed: 'DD:HH:MM:SS', a datetime.timedelta, or its arguments as a "
            "dict such as {'hours': 2}."
        ) from error
