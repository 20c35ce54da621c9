"""The base of callbacks: a name, a stage, and no hook stubs."""

from __future__ import annotations

from typing import Any, ClassVar

from trainkit.hooks.manager import PluginStage


class Callback:
    """Something that joins hooks of a run.

    A callback is any object whose methods are named after hooks (``trainkit/hooks/specs.py``); this base gives it a
    place in the order and a key in checkpoints. A hook that is not implemented is never called. A callback with memory
    has ``state_dict`` and ``load_state_dict``.

    Attributes:
        stage: When it is called within one hook: at ``setup``, ``modify``, ``module``, ``observe``, ``decide`` or
            ``persist``.
    """

    stage: ClassVar[PluginStage] = "observe"

    @property
    def state_key(self) -> str:
        """Under which a checkpoint keeps its state. Two callbacks of one class need different keys."""
        return type(self).__qualname__

    def _state_key(self, **identity: Any) -> str:
        """Return the class's name with the arguments that tell two of its kind apart."""
        return f"{type(self).__qualname__}{identity!r}"
