"""The section ``data`` of a configuration as settings of the run, for loggers."""

from __future__ import annotations

from typing import Any

from trainkit.config.schema import Config
from trainkit.module.hparams import DATA_SETTINGS
from trainkit.reflection import hide_secrets, names_secret


def data_settings(config: Config) -> dict[str, Any]:
    """Return the arguments of the data module by names such as ``data/batch_size``.

    Left out are passwords, what a resolver such as ``oc.env`` is asked for, and objects: of these the file tells.
    """
    # What leads to a resolver is known as it was written only.
    written = config.unresolved if config.unresolved is not None else config.sections()
    section = written.get("data") or {}
    plain = {name: value for name, value in section.items() if not names_secret(name) and _is_plain(name, value)}
    return {f"{DATA_SETTINGS}{name}": hide_secrets(value) for name, value in plain.items()}


def _is_plain(name: str, value: Any) -> bool:
    """Return whether a value stands for itself: neither it nor what is in it is made or found."""
    if isinstance(value, dict):
        return not name.startswith("_") and all(_is_plain(key, item) for key, item in value.items())
    if isinstance(value, list):
        return all(_is_plain(name, item) for item in value)
    return not name.startswith("_") and not (isinstance(value, str) and "${" in value)
