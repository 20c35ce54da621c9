"""Where the output of a run is looked at."""

from __future__ import annotations

import sys
from typing import Literal

Screen = Literal["terminal", "notebook", "text"]
"""``text`` is everything in which a line, once written, stays as it is: a file, a pipe, a dumb terminal."""


def screen() -> Screen:
    """Return what ``sys.stdout`` leads to."""
    if _in_notebook():
        return "notebook"
    stdout = sys.stdout
    if stdout is None or stdout.closed or not stdout.isatty():
        return "text"
    from rich.console import Console

    console = Console()
    return "terminal" if console.is_terminal and not console.is_dumb_terminal else "text"


def _in_notebook() -> bool:
    # A notebook's process has imported IPython, and only there a shell has a kernel.
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython is not None else None
    return hasattr(shell, "kernel")
