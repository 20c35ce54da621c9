"""What can show bars, and which of them suits the place where the output goes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

from trainkit.callbacks.progress_bar.bar import Bar
from trainkit.callbacks.screen import screen


class Display(Protocol):
    """Shows bars. The innermost is the last; a bar that encloses it comes before."""

    def show(self, bars: Sequence[Bar], values: Mapping[str, float]) -> None:
        """Show what is running, at most ten times a second."""

    def finish(self, bars: Sequence[Bar], values: Mapping[str, float]) -> None:
        """Take the last state of an epoch, or of an evaluation; called for every one, however short."""

    def close(self) -> None:
        """Leave the last state behind, and everything else as it was found."""


def open_display(leave: bool) -> Display:
    """Return a display for ``sys.stdout``.

    Args:
        leave: Whether the bar of each epoch stays; otherwise only that of the last one does.
    """
    kind = screen()
    if kind == "terminal":
        from trainkit.callbacks.progress_bar.terminal import TerminalDisplay

        return TerminalDisplay(leave)
    if kind == "notebook":
        from trainkit.callbacks.progress_bar.notebook import open_notebook_display

        return open_notebook_display(leave)
    from trainkit.callbacks.progress_bar.lines import LineDisplay

    return LineDisplay()
