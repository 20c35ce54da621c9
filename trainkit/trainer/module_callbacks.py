"""The callbacks that a module brings along: they are in the run for one call."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

from trainkit.module import TrainModule
from trainkit.output import warn
from trainkit.reflection import method_of
from trainkit.trainer.default_plugins import checkpoints_last

if TYPE_CHECKING:
    from trainkit.trainer.call import Call


@contextmanager
def module_callbacks(call: Call) -> Iterator[None]:
    """Add what ``configure_callbacks`` returns for one call; each replaces the Trainer's callbacks of its type."""
    own = method_of(call.module, "configure_callbacks", TrainModule)() or []
    own = list(own) if isinstance(own, Sequence) else [own]
    given = call.callbacks
    kept = [callback for callback in given if not any(type(callback) is type(new) for new in own)]
    replaced = [callback for callback in given if callback not in kept]
    call.registry.replace(replaced, own)
    listed = checkpoints_last([*kept, *own])
    call.callbacks = list(listed)
    try:
        yield
    finally:
        call.registry.replace(own, replaced)
        found, call.callbacks = call.callbacks, given
        if found != listed:
            warn(
                f"trainer.callbacks was changed during trainer.{call.stage}(), which had no effect. While it "
                "runs, callbacks join with trainer.hooks.register(callback) and leave with unregister. The list is "
                "read when a call begins."
            )
