"""The hook that is running when a checkpoint is saved: a run that continues calls the plugins that were to come."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, get_args

from trainkit.hooks.manager import HookManager

FinishedHook = Literal[
    "on_train_end",
    "on_train_epoch_end",
    "on_validation_end",
    "on_validation_epoch_end",
    "on_validation_batch_end",
    "on_train_batch_end",
    "on_train_epoch_start",
]
"""The hooks of which a run that continues calls the rest. Counters are set ahead of them, so that what is saved within
is behind them; all other hooks are called again, or are none of a fit."""

FINISHED_HOOKS: tuple[FinishedHook, ...] = get_args(FinishedHook)


@dataclass(frozen=True, slots=True)
class DueHook:
    """A hook that was running when a checkpoint was saved.

    Attributes:
        name: The hook.
        plugins: The names of the plugins that it had yet to call.
        manager: Has these plugins in the run that continues.
    """

    name: str
    plugins: list[str]
    manager: HookManager

    def call(self, values: Mapping[str, Any]) -> list[str]:
        """Call them with these arguments; return the names of those that ask for others, and were not called."""
        return self.manager.call_only(self.name, self.plugins, values)


def running_hook(manager: HookManager, *, without: object = None) -> dict[str, Any] | None:
    """Return name and plugins of the hook that is running and has plugins yet to call; None if there is none.

    Args:
        manager: Has the plugins.
        without: A plugin that does not count.
    """
    left_out = [name for name, plugin in manager.plugins if plugin is without]
    for hook in FINISHED_HOOKS:
        if plugins := [name for name in manager.remaining(hook) if name not in left_out]:
            return {"name": hook, "plugins": plugins}
    return None
