"""Bars in a terminal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar as RichBar
from rich.table import Table
from rich.text import Text

from trainkit.callbacks.progress_bar.bar import Bar, values_text
from trainkit.callbacks.progress_bar.display import Display

WIDEST, NARROWEST = 40, 10
BESIDE_THE_BAR = 60
"""What the other columns usually need."""

COLUMNS = (12, 0, 7, 13, 0)
"""The least widths of label, bar, counts, times and speed, so that little moves from one refresh to the next."""


class TerminalDisplay(Display):
    """Draws bars below what is printed, with the metrics underneath.

    Nothing is drawn but in `show` and `close`: there is no thread that would take time from the training.

    Args:
        leave: Whether the bar of each epoch stays.
    """

    def __init__(self, leave: bool) -> None:
        self._leave = leave
        self._frame: tuple[Sequence[Bar], Mapping[str, float]] = ((), {})
        self._console = Console()
        # A bar that was left is printed above; what is drawn would be there twice.
        self._live = Live(get_renderable=self._drawing, console=self._console, auto_refresh=False, transient=leave)

    def show(self, bars: Sequence[Bar], values: Mapping[str, float]) -> None:
        self._frame = (bars, values)
        if not self._live.is_started:
            self._live.start()
        self._live.refresh()

    def finish(self, bars: Sequence[Bar], values: Mapping[str, float]) -> None:
        self._frame = (bars, values)
        if self._leave:
            self._console.print(self._drawing())

    def close(self) -> None:
        self._live.stop()

    def _drawing(self) -> RenderableType:
        bars, values = self._frame
        room = self._console.width - BESIDE_THE_BAR
        grid = Table.grid(padding=(0, 2, 0, 0))
        for least in COLUMNS:
            grid.add_column(min_width=least, no_wrap=True)
        for bar in bars:
            grid.add_row(
                Text(bar.label, style="bold"),
                RichBar(total=bar.total, completed=bar.done, width=max(NARROWEST, min(WIDEST, room))),
                Text(bar.count_text, style="cyan"),
                Text(bar.time_text, style="dim"),
                Text(bar.rate_text, style="dim"),
            )
        return Group(grid, Text(values_text(values))) if values else grid
