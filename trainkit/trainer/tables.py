"""The table that an evaluation prints at its end: its metrics."""

from __future__ import annotations

from trainkit.types import Stage


def print_results(results: list[dict[str, float]], stage: Stage) -> None:
    """Print the metrics of an evaluation, one column per loader."""
    if not any(results):
        # Nothing was logged, or prediction: an empty table tells nothing.
        return
    from rich.table import Table

    from trainkit.console import cell, show

    table = Table()
    table.add_column(f"{stage} metric", style="cyan")
    for dataloader_idx in range(len(results)):
        table.add_column("value" if len(results) == 1 else f"loader {dataloader_idx}", justify="right")
    for name in dict.fromkeys(name for result in results for name in result):
        table.add_row(cell(name), *(f"{result[name]:.6g}" if name in result else "" for result in results))
    show(table)
