"""Tables and colours on stdout, drawn with rich."""

from __future__ import annotations

import errno
import os

from rich.console import Console, RenderableType
from rich.text import Text

from trainkit.output import printing
from trainkit.printable import printable


class RunConsole(Console):
    """A console that does not end the program when the reader of stdout is gone, as rich's own does."""

    def on_broken_pipe(self) -> None:
        raise BrokenPipeError(errno.EPIPE, os.strerror(errno.EPIPE))


def cell(value: object, style: str = "") -> Text:
    """Return a name or a value for a table. In a plain ``str`` rich finds markup, and an error in ``acc[/x]``."""
    return Text(printable(value), style)


def show(drawn: RenderableType) -> None:
    """Print what rich draws. Where stdout is closed or full, it is lost, which is told once."""
    with printing():
        RunConsole().print(drawn)
