"""`Recorder`, a plugin that records which hooks are called, in which order and with which arguments."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Generator, Iterable
from typing import TYPE_CHECKING, Any, NamedTuple

from trainkit.errors import UnknownNameError
from trainkit.hooks.manager import PluginStage
from trainkit.hooks.specs import HOOKS
from trainkit.module import TrainModule

if TYPE_CHECKING:
    from trainkit.trainer import Trainer


class Call(NamedTuple):
    """One call of a hook.

    Attributes:
        hook: The hook's name; ``"end of around_..."`` when an around-hook is left.
        arguments: Its arguments by name, without ``trainer`` and ``module``.
        seen: What the recorder's ``look`` returned at that moment.
    """

    hook: str
    arguments: dict[str, Any]
    seen: Any = None


class Recorder:
    """Joins hooks and records every call.

    Example::

        recorder = Recorder(only=["on_train_batch_end"], look=lambda trainer, module: trainer.global_step)
        quiet_trainer(callbacks=[recorder]).fit(TinyModule(), TinyData(3))
        assert recorder.seen("on_train_batch_end") == [1, 2, 3]

    Args:
        only: The hooks to join; by default every hook there is, the around-hooks too.
        look: Called as ``look(trainer, module)`` at each call; its result is recorded as ``seen``.
        stage: The plugin stage at which it is called.
        name: The plugin's name; recorders in one run need different ones.

    Attributes:
        calls: The calls so far, in order.
    """

    def __init__(
        self,
        only: Iterable[str] | None = None,
        *,
        look: Callable[[Trainer, TrainModule], Any] | None = None,
        stage: PluginStage = "observe",
        name: str | None = None,
    ) -> None:
        self.calls: list[Call] = []
        self.stage = stage
        # Not set to None: the manager takes a ``name`` for the plugin's own, and without one uses the class's.
        if name is not None:
            self.name = name
        self._look = look
        for hook in HOOKS if only is None else only:
            if hook not in HOOKS:
                raise UnknownNameError("hook", hook, HOOKS, where="Recorder(only=...)")
            setattr(self, hook, self._listener(hook))

    @property
    def names(self) -> list[str]:
        """The names of all calls, in order."""
        return [call.hook for call in self.calls]

    def arguments(self, hook: str) -> list[dict[str, Any]]:
        """Return the arguments of each call of ``hook``."""
        return [call.arguments for call in self.calls if call.hook == hook]

    def seen(self, hook: str) -> list[Any]:
        """Return the result of ``look`` at each call of ``hook``."""
        return [call.seen for call in self.calls if call.hook == hook]

    def count(self, hook: str) -> int:
        """Return how often ``hook`` was called."""
        return self.names.count(hook)

    def note(self, event: str) -> None:
        """Record something that is no hook, such as a step of the module, in the same list."""
        self.calls.append(Call(event, {}))

    def _listener(self, hook: str) -> Any:
        """Return a function that implements ``hook`` and records its calls."""
        provided = HOOKS[hook]

        def record(*values: Any) -> None:
            arguments = dict(zip(provided, values, strict=True))
            trainer, module = arguments.pop("trainer"), arguments.pop("module")
            seen = self._look(trainer, module) if self._look is not None else None
            self.calls.append(Call(hook, arguments, seen))

        def record_around(*values: Any) -> Generator[None, Any, Any]:
            record(*values)
            try:
                return (yield)
            # Recorded also when what it goes around raises.
            finally:
                self.note(f"end of {hook}")

        listener: Any = record_around if hook.startswith("around_") else record
        # A plugin gets the arguments that its signature names, and `*values` would be refused.
        parameters = [inspect.Parameter(name, inspect.Parameter.POSITIONAL_OR_KEYWORD) for name in provided]
        listener.__signature__ = inspect.Signature(parameters)
        return listener
