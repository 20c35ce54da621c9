"""Progress bars in a terminal, drawn with rich."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from time import monotonic

from rich.console import Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar as RichBar
from rich.table import Column, Table
from rich.text import Text

from trainkit.callbacks.progress_bar.bar import GAP, Bar, line_parts, value_texts, wrapped
from trainkit.callbacks.progress_bar.display import Display
from trainkit.console import RunConsole

MAX_BAR_WIDTH, MIN_BAR_WIDTH = 40, 5
MIN_COLUMN_WIDTHS = (12, 7, 13, 9)
"""The least widths of label, counts, times and rate, so that little moves from one refresh to the next."""

LINES_EVERY_S = 0.5
"""Lines that follow each other faster are printed with the next drawing, as to print one takes milliseconds."""


class TerminalDisplay(Display):
    """Draws bars below what is printed, and the metrics below the bars. Of what is finished a line remains above.

    It draws in `show` and `close` alone: rich's refresh thread would take time from training.

    Args:
        leave: Whether the bar of each epoch stays, instead of a line.
    """

    def __init__(self, leave: bool) -> None:
        self._leave = leave
        self._frame: tuple[Sequence[Bar], Mapping[str, float]] = ((), {})
        self._finished: list[str] = []  # lines that are not printed yet
        self._printed_at = monotonic()
        self._told: Bar | None = None  # the newest of which a line, or all of it, remains above the live area
        self._console = RunConsole()
        # What is finished is printed above the live area. transient=True removes that area at the end: it would show
        # the last bar a second time.
        self._live = Live(get_renderable=self._drawing, console=self._console, auto_refresh=False, transient=True)

    def show(self, bars: Sequence[Bar], values: Mapping[str, float]) -> None:
        self._frame = (bars, values)
        # Started with the first drawing, so that nothing is written before. From then on rich redirects sys.stdout, and
        # what users print appears above the bars.
        if not self._live.is_started:
            self._live.start()
        self._print_finished()
        self._live.refresh()

    def finish(self, bars: Sequence[Bar], values: Mapping[str, float]) -> None:
        self._frame, self._told = (bars, values), bars[-1]
        if self._leave:
            self._console.print(self._drawing())
        else:
            self._finished.append(wrapped(line_parts(bars, values), self._console.width))
            # At once if it may be, so that what others print next comes below it.
            if monotonic() - self._printed_at >= LINES_EVERY_S:
                self._print_finished()

    def close(self) -> None:
        self._live.stop()
        self._print_finished()
        bars, _ = self._frame
        if bars and bars[-1] is not self._told:
            self._console.print(self._drawing())

    def _print_finished(self) -> None:
        lines, self._finished = self._finished, []
        if lines:
            self._printed_at = monotonic()
            self._console.print(Text("\n".join(lines)))

    def _drawing(self) -> RenderableType:
        bars, values = self._frame
        rows = [_texts(bar) for bar in bars]
        widths = [max([least, *map(len, column)]) for least, *column in zip(MIN_COLUMN_WIDTHS, *rows, strict=True)]
        room = min(MAX_BAR_WIDTH, self._console.width - sum(widths) - len(GAP) * len(widths))
        # In a terminal that is too narrow for all columns the bar is left out: numbers say more.
        room = room if room >= MIN_BAR_WIDTH else 0
        widths[1:1] = [room] if room else []
        grid = Table.grid(*(Column(min_width=width, no_wrap=True) for width in widths), padding=(0, len(GAP), 0, 0))
        for bar, (label, *numbers) in zip(bars, rows, strict=True):
            drawn = [RichBar(total=bar.total, completed=bar.done, width=room)] if room else []
            grid.add_row(label, *drawn, *numbers)
        return Group(grid, Text(wrapped(value_texts(values), self._console.width))) if values else grid


def _texts(bar: Bar) -> list[Text]:
    return [
        Text(bar.label, style="bold"),
        Text(bar.count_text, style="cyan"),
        Text(bar.time_text, style="dim"),
        Text(bar.rate_text, style="dim"),
    ]
