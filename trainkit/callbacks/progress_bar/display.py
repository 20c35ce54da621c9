"""The contract of displays, which draw progress bars."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

from trainkit.callbacks.progress_bar.bar import Bar


class Display(Protocol):
    """Draws progress bars. The last bar is the innermost: a validation comes after the epoch that it is part of."""

    def show(self, bars: Sequence[Bar], values: Mapping[str, float]) -> None:
        """Draw the bars as they are now. Called at most ten times a second."""

    def finish(self, bars: Sequence[Bar], values: Mapping[str, float]) -> None:
        """Take the final state of an epoch or an evaluation. Called for every one, even if it was never shown."""

    def close(self) -> None:
        """Draw the last state once more, and restore the terminal. Called once, also after an exception."""
