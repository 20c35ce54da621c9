"""`LambdaCallback`: a callback made of functions."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from trainkit.compat.lightning.callbacks import callback
from trainkit.errors import UnknownArgumentError
from trainkit.hooks.specs import HOOKS


class LambdaCallback(callback.Callback):
    """Calls functions at hooks: ``LambdaCallback(on_train_end=lambda trainer, pl_module: print("done"))``.

    Args:
        functions: From a hook to the function that joins it.

    Raises:
        UnknownArgumentError: If there is no such hook.
    """

    def __init__(self, **functions: Callable[..., Any] | None) -> None:
        for hook, function in functions.items():
            if hook not in HOOKS:
                raise UnknownArgumentError("hook", hook, HOOKS, "LambdaCallback(...)")
            if function is not None:
                setattr(self, hook, function)
