"""The base class of profilers: plugins that measure where the time of a run goes, and tell it at the end."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, ClassVar

from trainkit.hooks.callback import Callback
from trainkit.hooks.manager import PluginStage
from trainkit.output import say
from trainkit.types import NO_CONTEXT

if TYPE_CHECKING:
    from trainkit.trainer import Trainer


class Profiler(Callback):
    """A callback that measures. The Trainer tells what it has found at the end of each call.

    A subclass joins the hooks it needs, as any callback, and overrides `summary`. This class itself measures nothing.
    """

    stage: ClassVar[PluginStage] = "setup"

    def profile(self, name: str) -> AbstractContextManager[None]:
        """Measure a block of the user's own: ``with self.trainer.profiler.profile("augment"): ...``.

        Args:
            name: What it is called in the summary.
        """
        return NO_CONTEXT

    def gather(self, trainer: Trainer) -> None:
        """Ask other ranks for what they have measured. Called on every rank at the end of a call that ended well."""

    def summary(self) -> str:
        """Return what was measured in the newest call, as text of 80 columns; empty if there is nothing to tell."""
        return ""

    def describe(self) -> None:
        """Print the summary. Called on rank 0 at the end of a call that ended well, behind `gather`."""
        text = self.summary()
        if text:
            say(text)
