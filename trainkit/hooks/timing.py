"""Where the time of a run goes: seconds and calls for each plugin and hook."""

from __future__ import annotations

from collections.abc import Callable, Generator
from dataclasses import dataclass
from time import perf_counter
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.table import Table


@dataclass(slots=True)
class Spent:
    """What one plugin has spent in one hook.

    Attributes:
        plugin: The plugin's name.
        hook: The hook's name.
        calls: How often it was called.
        seconds: Wall time of the host, with all that the plugin called; for a wrapper without what it goes around.
            Work that an accelerator still has to do is not waited for.
    """

    plugin: str
    hook: str
    calls: int = 0
    seconds: float = 0.0


class Ledger:
    """Collects what plugins spend. Until it is enabled, there is no clock in any call.

    Args:
        on_enable: Called when it is enabled, to bind the hooks anew.
    """

    def __init__(self, on_enable: Callable[[], None]) -> None:
        self._on_enable = on_enable
        self._enabled = False
        self._spent: dict[tuple[str, str], Spent] = {}

    @property
    def enabled(self) -> bool:
        """Whether clocks are running."""
        return self._enabled

    def enable(self) -> None:
        """Put a clock on every plugin, from the next call of each hook on."""
        if not self._enabled:
            self._enabled = True
            self._on_enable()

    def rows(self) -> list[Spent]:
        """Return what was spent, the most first."""
        return sorted((spent for spent in self._spent.values() if spent.calls), key=lambda spent: -spent.seconds)

    def table(self) -> Table:
        """Return what was spent as a table for a rich console."""
        from rich.table import Table

        table = Table("plugin", "hook", title="Time spent in plugins")
        for column in ("calls", "seconds", "µs per call"):
            table.add_column(column, justify="right")
        for row in self._cells():
            table.add_row(*row)
        return table

    def __str__(self) -> str:
        """What was spent as plain text, one row per line."""
        rows = [("plugin", "hook", "calls", "seconds", "µs per call"), *self._cells()]
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        layout = "{{:<{}}}  {{:<{}}}  {{:>{}}}  {{:>{}}}  {{:>{}}}".format(*widths)
        return "\n".join(layout.format(*row) for row in rows)

    def clocked(self, function: Callable[..., Any], plugin: str, hook: str, *, is_wrapper: bool) -> Callable[..., Any]:
        """Return ``function`` with a clock on it."""
        spent = self._spent.setdefault((plugin, hook), Spent(plugin, hook))
        if is_wrapper:
            return lambda *values: _ClockedGenerator(function(*values), spent)

        def call(*values: Any) -> Any:
            spent.calls += 1
            start = perf_counter()
            try:
                return function(*values)
            finally:
                spent.seconds += perf_counter() - start

        return call

    def _cells(self) -> list[tuple[str, str, str, str, str]]:
        return [
            (row.plugin, row.hook, str(row.calls), f"{row.seconds:.3f}", f"{row.seconds / row.calls * 1e6:.1f}")
            for row in self.rows()
        ]


class _ClockedGenerator(Generator[Any, Any, Any]):
    """A wrapper's generator whose own parts are timed, and not what runs while it waits at its yield."""

    def __init__(self, generator: Generator[Any, Any, Any], spent: Spent) -> None:
        self._generator = generator
        self._spent = spent
        spent.calls += 1

    def send(self, value: Any) -> Any:
        start = perf_counter()
        try:
            return self._generator.send(value)
        finally:
            self._spent.seconds += perf_counter() - start

    def throw(self, *error: Any) -> Any:
        start = perf_counter()
        try:
            return self._generator.throw(*error)
        finally:
            self._spent.seconds += perf_counter() - start

    def close(self) -> None:
        self._generator.close()
