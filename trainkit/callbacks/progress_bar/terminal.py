"""Bars in a terminal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar as RichBar
from rich.table import Column, Table
from rich.text import Text

from trainkit.callbacks.progress_bar.bar import Bar, values_text
from trainkit.callbacks.progress_bar.display import Display

WIDEST, NARROWEST = 40, 5
LEAST = (12, 7, 13, 9)
"""The least widths of label, counts, times and speed, so that little moves from one refresh to the next."""

GAP = 2


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
        rows = [_texts(bar) for bar in bars]
        widths = [max([least, *map(len, column)]) for least, *column in zip(LEAST, *rows, strict=True)]
        room = min(WIDEST, self._console.width - sum(widths) - GAP * len(widths))
        # Where a terminal is too narrow for all, the numbers say more than the bar.
        room = room if room >= NARROWEST else 0
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
