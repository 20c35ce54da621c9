"""Drawing a summary as rich tables."""

from __future__ import annotations

from rich.console import Group, RenderableType
from rich.table import Table

from trainkit.callbacks.model_summary.summary import Summary
from trainkit.console import cell

STYLES = {"Name": "cyan", "Type": "green"}


def as_rich(summary: Summary) -> RenderableType:
    """Return the table of layers and the totals below it, for a rich console."""
    below = Table.grid(padding=(0, 2))
    for name, value in summary.totals():
        below.add_row(cell(name, "bold"), value)
    if not summary.layers:
        return below
    table = Table()
    shown = summary.columns()
    for column in shown:
        table.add_column(column.title, justify="right" if column.is_number else "left", style=STYLES.get(column.title))
    for row in zip(*(column.cells for column in shown), strict=True):
        table.add_row(*map(cell, row))
    return Group(table, below)
