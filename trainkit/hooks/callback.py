"""`Callback`, the base class of callbacks: a plugin stage and a key in checkpoints."""

from __future__ import annotations

from typing import Any, ClassVar

from trainkit.hooks.manager import PluginStage


class Callback:
    """A plugin that is written as a class. Subclass it, and add methods named after hooks.

    Any object with such methods is a plugin (``trainkit/hooks/specs.py`` lists the hooks); this base gives it a place
    in the order of calls and a key in checkpoints. It has no stubs of hooks: what a subclass does not implement is
    never called. A callback with memory has ``state_dict`` and ``load_state_dict``.

    Attributes:
        stage: The plugin stage, which says when it is called within one hook: ``setup``, ``modify``, ``module``,
            ``observe``, ``decide`` or ``persist``.
    """

    stage: ClassVar[PluginStage] = "observe"

    @property
    def state_key(self) -> str:
        """The key of its state in a checkpoint. Several with one key are told apart by all arguments, then by order."""
        return type(self).__qualname__

    def _state_key(self, **identity: Any) -> str:
        """Return a key from the class's name and the arguments that stay what they are when the run goes on."""
        return f"{type(self).__qualname__}{identity!r}"
