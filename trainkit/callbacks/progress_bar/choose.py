"""Choosing the display by the kind of output that ``sys.stdout`` is."""

from __future__ import annotations

from trainkit.callbacks.output_kind import output_kind
from trainkit.callbacks.progress_bar.display import Display


def open_display(leave: bool) -> Display:
    """Return a display for ``sys.stdout``.

    Args:
        leave: Whether the bar of each epoch stays; otherwise only that of the last one does.
    """
    # Imported where they are chosen: a run in a batch job needs neither rich nor IPython.
    kind = output_kind()
    if kind == "terminal":
        from trainkit.callbacks.progress_bar.terminal import TerminalDisplay

        return TerminalDisplay(leave)
    if kind == "notebook":
        from trainkit.callbacks.progress_bar.notebook import open_notebook_display

        return open_notebook_display(leave)
    from trainkit.callbacks.progress_bar.lines import LineDisplay

    return LineDisplay()
