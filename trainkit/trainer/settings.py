"""The arguments of a Trainer as settings of the run, which loggers write beside the hyperparameters of the module."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from datetime import timedelta
from typing import Any

from trainkit.module.hparams import TRAINER_SETTINGS
from trainkit.precision.base import Precision
from trainkit.strategies.base import Strategy

_NOT_OF_TRAINING = {
    "callbacks",
    "default_root_dir",
    "enable_checkpointing",
    "enable_model_summary",
    "enable_progress_bar",
    "keep_last",
    "log_every_n_steps",
    "logger",
    "plugins",
    "print_schedule",
    "profiler",
}
"""Arguments that only say what is shown and written, or are objects, of which ``run.json`` tells."""


def given_settings(constructor: Callable[..., object], values: Mapping[str, Any]) -> dict[str, Any]:
    """Return the arguments that are not as they are by default, by names such as ``trainer/max_epochs``.

    Args:
        constructor: What has the defaults.
        values: The arguments, by name. What is under other names is left out.
    """
    parameters = inspect.signature(constructor).parameters.values()
    defaults = {each.name: each.default for each in parameters if each.kind is each.KEYWORD_ONLY}
    given = {name: values[name] for name, default in defaults.items() if not _is(values[name], default)}
    return {f"{TRAINER_SETTINGS}{name}": _told(value) for name, value in given.items() if name not in _NOT_OF_TRAINING}


def _is(value: Any, default: Any) -> bool:
    # By type first: 1 is one batch, and 1.0 all of them.
    return value is default or (type(value) is type(default) and bool(value == default))


def _told(value: Any) -> Any:
    if isinstance(value, Strategy):
        return value.name
    return str(value) if isinstance(value, Precision | timedelta) else value
