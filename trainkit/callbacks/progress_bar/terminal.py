"""Progress bars in a terminal, drawn with rich."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from rich.console import Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar as RichBar
from rich.table import Column, Table
from rich.text import Text

from trainkit.callbacks.progress_bar.bar import Bar, values_text
from trainkit.callbacks.progress_bar.display import Display
from trainkit.storage.console import RunConsole

MAX_BAR_WIDTH, MIN_BAR_WIDTH = 40, 5
MIN_COLUMN_WIDTHS = (12, 7, 13, 9)
"""The least widths of label, counts, times and rate, so that little moves from one refresh to the next."""

GAP = 2
"""Blanks between two columns."""


class TerminalDisplay(Display):
    """Draws bars below what is printed, and the metrics below the bars.

    It draws in `show` and `close` alone: rich's refresh thread would take time from training.

    Args:
        leave: Whether the bar of each epoch stays.
    """

    def __init__(self, leave: bool) -> None:
        self._leave = leave
        self._frame: tuple[Sequence[Bar], Mapping[str, float]] = ((), {})
        self._console = RunConsole()
        # With `leave`, `finish` prints each bar above the live area. transient=True removes that area at the end: it
        # would show the last bar a second time.
        self._live = Live(get_renderable=self._drawing, console=self._console, auto_refresh=False, transient=leave)

    def show(self, bars: Sequence[Bar], values: Mapping[str, float]) -> None:
        self._frame = (bars, values)
        # Started with the first drawing, so that nothing is written before. From then on rich redirects sys.stdout, and
        # what users print appears above the bars.
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
        rows = [_texts(bar) for bar in bars]
        widths = [max([least, *map(len, column)]) for least, *column in zip(MIN_COLUMN_WIDTHS, *rows, strict=True)]
        room = min(MAX_BAR_WIDTH, self._console.width - sum(widths) - GAP * len(widths))
        # In a terminal that is too narrow for all columns the bar is left out: numbers say more.
        room = room if room >= MIN_BAR_WIDTH else 0
        widths[1:1] = [room] if room else []
        grid = Table.grid(*(Column(min_width=width, no_wrap=True) for width in widths), padding=(0, GAP, 0, 0))
        for bar, (label, *numbers) in zip(bars, rows, strict=True):
            drawn = [RichBar(total=bar.total, completed=bar.done, width=room)] if room else []
            grid.add_row(label, *drawn, *numbers)
        return Group(grid, Text(values_text(values))) if values else grid


def _texts(bar: Bar) -> list[Text]:
    return [
        Text(bar.label, style="bold"),
        Text(bar.count_text, style="cyan"),
        Text(bar.time_text, style="dim"),
        Text(bar.rate_text, style="dim"),
    ]
