"""Progress as lines of text, for files, pipes and other output in which nothing can be overwritten."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from time import monotonic

from trainkit.callbacks.progress_bar.bar import Bar, line_text
from trainkit.callbacks.progress_bar.display import Display

MIN_INTERVAL_S = 10.0
MAX_INTERVAL_S = 60.0
MIN_PROGRESS = 0.1


class LineDisplay(Display):
    """Prints a line for each epoch; in a long epoch also after each tenth of it, or each minute if that is sooner."""

    def __init__(self) -> None:
        self._printed_at = monotonic()
        self._printed: tuple[Bar | None, float] = (None, 0.0)

    def show(self, bars: Sequence[Bar], values: Mapping[str, float]) -> None:
        if bars and self._is_due(bars[-1]):
            self._print(bars, values)

    def finish(self, bars: Sequence[Bar], values: Mapping[str, float]) -> None:
        self._print(bars, values)

    def close(self) -> None:
        """Do nothing: there is nothing to restore."""

    def _is_due(self, bar: Bar) -> bool:
        waited_s = monotonic() - self._printed_at
        last_bar, last_fraction = self._printed
        # Compared with the last line of the same bar: a validation in between has a bar of its own.
        advanced = (bar.fraction or 0.0) - (last_fraction if bar is last_bar else 0.0)
        return waited_s >= MAX_INTERVAL_S or (waited_s >= MIN_INTERVAL_S and advanced >= MIN_PROGRESS)

    def _print(self, bars: Sequence[Bar], values: Mapping[str, float]) -> None:
        bar = bars[-1]
        # Without flush a line waits in the buffer of a pipe or a file, and the log looks as if the run hung.
        print(line_text(bars, values), flush=True)
        self._printed_at = monotonic()
        self._printed = (bar, bar.fraction or 0.0)
