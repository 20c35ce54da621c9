"""Environment variables that are numbers."""

from __future__ import annotations

import os

from trainkit.errors import DeviceError


def number_of(name: str, default: int | None = None) -> int:
    """Return the environment variable ``name`` as a number, or ``default`` where it is not set.

    Raises:
        DeviceError: If it is no whole number, or is not set and there is no default.
    """
    text = os.environ.get(name, default)
    try:
        return int(text)  # type: ignore[arg-type]  # None is answered below
    except (TypeError, ValueError):
        raise DeviceError(f"the environment variable {name} is {text!r}, and must be a whole number.") from None
