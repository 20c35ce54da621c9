"""Progress bars in a notebook: widgets, or text where ipywidgets is not installed.

A line of text remains of what is finished. Of widgets a notebook that is saved, or opened elsewhere, keeps nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from importlib import import_module
from importlib.util import find_spec
from typing import Any

from trainkit.callbacks.progress_bar.bar import Bar, line_text, values_text
from trainkit.callbacks.progress_bar.display import Display


def open_notebook_display(leave: bool) -> Display:
    """Return a display of widgets, or of text if ipywidgets is not installed."""
    return WidgetDisplay(leave) if find_spec("ipywidgets") else TextDisplay(leave)


class WidgetDisplay(Display):
    """One widget for each bar, and the metrics underneath. They go at the end, and lines of text remain.

    Args:
        leave: Whether the bars of each epoch stay beside its line.
    """

    def __init__(self, leave: bool) -> None:
        self._widgets: Any = import_module("ipywidgets")
        self._leave = leave
        self._box: Any = None
        self._handle: Any = None  # by which what was displayed can be replaced
        self._rows: list[Any] = []
        self._metrics: Any = None
        self._frame: tuple[Sequence[Bar], Mapping[str, float]] = ((), {})  # the newest state, drawn or not
        self._told: Bar | None = None  # the newest of which a line remains

    def show(self, bars: Sequence[Bar], values: Mapping[str, float]) -> None:
        self._frame = (bars, values)
        if self._box is None:
            self._rows, self._metrics, self._box = [], self._widgets.HTML(), self._widgets.VBox()
            self._handle = _display(self._box, display_id=True)
        # Rows are kept and used again, for the next validation: the browser keeps every widget that was ever made.
        self._rows += [self._row() for _ in bars[len(self._rows) :]]
        rows = self._rows[: len(bars)]
        for row, bar in zip(rows, bars, strict=True):
            _fill(row, bar)
        self._metrics.value = _monospaced(values_text(values))
        children = (*rows, self._metrics)
        # Each assignment is a message to the browser, which draws the box anew.
        if self._box.children != children:
            self._box.children = children

    def finish(self, bars: Sequence[Bar], values: Mapping[str, float]) -> None:
        # Drawn once more: the final state may not have been. Nothing, if nothing ever was.
        if self._leave and self._box is not None:
            self.show(bars, values)
            self._box = None
        self._frame, self._told = (bars, values), bars[-1]
        print(line_text(bars, values))

    def close(self) -> None:
        bars, values = self._frame
        if bars and bars[-1] is not self._told:
            print(line_text(bars, values))
        if self._box is not None:
            self._handle.update({"text/plain": ""}, raw=True)
            self._box.close()
            self._box = None

    def _row(self) -> Any:
        label = self._widgets.HTML(layout={"width": "10em"})
        return self._widgets.HBox([label, self._widgets.FloatProgress(max=1.0), self._widgets.HTML()])


class TextDisplay(Display):
    """Text in the output of the cell, replaced at each refresh. A line remains of what is finished.

    Args:
        leave: Whether the text of each epoch stays, instead of a line.
    """

    def __init__(self, leave: bool) -> None:
        self._leave = leave
        self._handle: Any = None
        self._frame: tuple[Sequence[Bar], Mapping[str, float]] = ((), {})  # the newest state, drawn or not
        self._told: Bar | None = None  # the newest of which a line remains

    def show(self, bars: Sequence[Bar], values: Mapping[str, float]) -> None:
        self._frame = (bars, values)
        lines = [f"{bar.label}  {bar.count_text}  {bar.time_text}  {bar.rate_text}".rstrip() for bar in bars]
        # raw=True with a bundle of MIME types: display() of a str would show its repr, with quotes.
        bundle = {"text/plain": "\n".join([*lines, values_text(values)]).rstrip()}
        if self._handle is None:
            self._handle = _display(bundle, raw=True, display_id=True)
        else:
            self._handle.update(bundle, raw=True)

    def finish(self, bars: Sequence[Bar], values: Mapping[str, float]) -> None:
        if self._leave:
            self.show(bars, values)
            self._handle = None
        else:
            print(line_text(bars, values))
        self._frame, self._told = (bars, values), bars[-1]

    def close(self) -> None:
        if self._handle is None:
            return
        bars, values = self._frame
        if bars[-1] is self._told:
            self._handle.update({"text/plain": ""}, raw=True)
        else:
            self.show(bars, values)


def _display(*args: Any, **kwargs: Any) -> Any:
    # By name, since IPython is no dependency: where this runs, the notebook has imported it.
    return import_module("IPython.display").display(*args, **kwargs)


def _fill(row: Any, bar: Bar) -> None:
    label, progress, numbers = row.children
    label.value = f"<b>{escape(bar.label)}</b>"
    # A bar without a total is full and in another colour, as widgets have no bar for an unknown length.
    progress.value = 1.0 if bar.fraction is None else bar.fraction
    progress.bar_style = "info" if bar.fraction is None else "success" if bar.fraction == 1.0 else ""
    numbers.value = _monospaced("  ".join(part for part in (bar.count_text, bar.time_text, bar.rate_text) if part))


def _monospaced(text: str) -> str:
    return f'<span style="font-family: monospace; white-space: pre-wrap">{escape(text)}</span>'
