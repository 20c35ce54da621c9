"""What stands for the bars of tqdm that Lightning's progress bars have as attributes."""

from __future__ import annotations

from typing import Any


class SilentBar:
    """Takes what a bar of tqdm takes, and shows nothing of it: there is one bar on the screen, which trainkit draws.

    Attributes:
        n: How far it says it is.
        total: How far it says it goes.
    """

    n = 0
    total: float | None = None

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return self._accept

    def _accept(self, *args: Any, **kwargs: Any) -> None:
        """Do nothing."""
