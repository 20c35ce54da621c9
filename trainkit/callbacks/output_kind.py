"""What ``sys.stdout`` is: a terminal, a notebook, or plain text such as a file."""

from __future__ import annotations

import sys
from typing import Literal

OutputKind = Literal["terminal", "notebook", "text"]
"""``text`` is everything in which a written line cannot be overwritten: a file, a pipe, a dumb terminal."""


def output_kind() -> OutputKind:
    """Return what ``sys.stdout`` is now."""
    if _in_notebook():
        return "notebook"
    stdout = sys.stdout
    # Asked before rich is, which takes a file for a terminal where FORCE_COLOR is set. None is the stdout of pythonw.
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
