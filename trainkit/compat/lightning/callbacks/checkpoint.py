"""The base of callbacks that save."""

from typing import ClassVar

from trainkit.compat.lightning.callbacks.callback import Callback
from trainkit.hooks.manager import PluginStage


class Checkpoint(Callback):
    """A callback that saves, and so is called after all others."""

    stage: ClassVar[PluginStage] = "persist"
