"""What can show bars."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

from trainkit.callbacks.progress_bar.bar import Bar


class Display(Protocol):
    """Shows bars. The innermost is the last; a bar that encloses it comes before."""

    def show(self, bars: Sequence[Bar], values: Mapping[str, float]) -> None:
        """Show what is running, at most ten times a second."""

    def finish(self, bars: Sequence[Bar], values: Mapping[str, float]) -> None:
        """Take the last state of an epoch, or of an evaluation; called for every one, however short."""

    def close(self) -> None:
        """Leave the last state behind, and everything else as it was found."""
