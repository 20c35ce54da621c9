"""Time spent in plugins: seconds and calls for each plugin and hook."""

from __future__ import annotations

from collections.abc import Callable, Generator
from dataclasses import dataclass
from time import perf_counter
from typing import TYPE_CHECKING, Any

from trainkit.printable import printable

if TYPE_CHECKING:
    from rich.table import Table


@dataclass(slots=True)
class TimingRow:
    """The time that one plugin has taken in one hook.

    Attributes:
        plugin: The plugin's name.
        hook: The hook's name.
        calls: How often it was called.
        seconds: Wall time of the host, with all that the plugin called; of a wrapper without what it runs around.
            Work that an accelerator still has to do is not waited for.
    """

    plugin: str
    hook: str
    calls: int = 0
    seconds: float = 0.0


class HookTimer:
    """Measures how long plugins take. Until it is enabled, no call is timed, and none is slower for it.

    Args:
        on_enable: Called when it is enabled. Has to bind all hooks anew, so that each function is replaced by `timed`.
    """

    def __init__(self, on_enable: Callable[[], None]) -> None:
        self._on_enable = on_enable
        self._enabled = False
        self._rows: dict[tuple[str, str], TimingRow] = {}

    @property
    def enabled(self) -> bool:
        """Whether calls are timed."""
        return self._enabled

    def enable(self) -> None:
        """Time every plugin, from the next call of each hook on."""
        if not self._enabled:
            self._enabled = True
            self._on_enable()

    def rows(self) -> list[TimingRow]:
        """Return the rows of plugins that were called, the longest time first."""
        return sorted((row for row in self._rows.values() if row.calls), key=lambda row: -row.seconds)

    def table(self) -> Table:
        """Return the rows as a table for a rich console."""
        # Imported here: only who prints a table pays for rich (tests/hooks/test_timing.py).
        from rich.table import Table
        from rich.text import Text

        table = Table("plugin", "hook", title="Time spent in plugins")
        for column in ("calls", "seconds", "µs per call"):
            table.add_column(column, justify="right")
        for row in self._cells():
            table.add_row(*map(Text, row))
        return table

    def __str__(self) -> str:
        """Return the rows as plain text, one per line."""
        rows = [("plugin", "hook", "calls", "seconds", "µs per call"), *self._cells()]
        # Each column is as wide as its longest cell: text to the left, numbers to the right.
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        layout = "{{:<{}}}  {{:<{}}}  {{:>{}}}  {{:>{}}}  {{:>{}}}".format(*widths)
        return "\n".join(layout.format(*row) for row in rows)

    def timed(self, function: Callable[..., Any], plugin: str, hook: str, *, is_wrapper: bool) -> Callable[..., Any]:
        """Return ``function`` so that each call is counted and timed."""
        # The row is looked up here, once per binding. A hook that is bound anew continues its row.
        row = self._rows.setdefault((plugin, hook), TimingRow(plugin, hook))
        # Calling a generator function runs none of it: what has to be timed is each part between its yields.
        if is_wrapper:
            return lambda *values: _TimedGenerator(function(*values), row)

        def call(*values: Any) -> Any:
            row.calls += 1
            start = perf_counter()
            try:
                return function(*values)
            # Also of a call that raises.
            finally:
                row.seconds += perf_counter() - start

        return call

    def _cells(self) -> list[tuple[str, str, str, str, str]]:
        return [
            (
                printable(row.plugin),
                row.hook,
                str(row.calls),
                f"{row.seconds:.3f}",
                f"{row.seconds / row.calls * 1e6:.1f}",
            )
            for row in self.rows()
        ]


class _TimedGenerator(Generator[Any, Any, Any]):
    """A wrapper's generator that is timed while it runs, and not while it waits at its yield.

    `collections.abc.Generator` supplies ``__next__`` from ``send``.
    """

    def __init__(self, generator: Generator[Any, Any, Any], row: TimingRow) -> None:
        self._generator = generator
        self._row = row
        row.calls += 1

    def send(self, value: Any) -> Any:
        start = perf_counter()
        try:
            return self._generator.send(value)
        finally:
            self._row.seconds += perf_counter() - start

    def throw(self, *error: Any) -> Any:
        start = perf_counter()
        try:
            return self._generator.throw(*error)
        finally:
            self._row.seconds += perf_counter() - start

    def close(self) -> None:
        self._generator.close()
