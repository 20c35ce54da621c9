"""Tables of what was measured."""

from __future__ import annotations

from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table

from benchmarks.cases import CASES
from benchmarks.cases.case import Case
from benchmarks.figures import Comparison


def print_case(console: Console, name: str, results: dict[str, dict[str, Any]]) -> None:
    """Print the figures of all contenders in one case, and why others have none."""
    case = CASES[name]
    table = Table(title=f"{name}: {case.title}, {case.unit}", title_justify="left", title_style="bold", box=box.SIMPLE)
    for column in ("", "by hand", "with it", "beyond", "quartiles", "ratio", "budget"):
        table.add_column(column, justify="right" if column else "left", no_wrap=True)
    for contender, result in results.items():
        if case.clock in result:
            table.add_row(contender, *_cells(case, contender, Comparison.from_dict(result[case.clock])))
    if table.row_count:
        console.print(table)
    for reason, names in _reasons(results).items():
        console.print(f"  {name} not measured: {', '.join(names)} ({reason})", style="dim", highlight=False)


def _cells(case: Case, contender: str, found: Comparison) -> list[str]:
    low, middle, high = (
        _number(value, "+") for value in (found.difference.low, found.difference.median, found.difference.high)
    )
    cells = [_number(found.hand.median), _number(found.contender.median), middle, f"{low} {high}"]
    return [*cells, f"{found.ratio.median:.3f}", _verdict(case, found) if contender == "trainkit" else ""]


def _verdict(case: Case, found: Comparison) -> str:
    if case.budget is None:
        return ""
    limit = f"{case.budget.at_most:.3g}"
    limit = f"+{limit}" if case.budget.figure == "difference" else f"x {limit}"
    return f"{limit} {'met' if case.budget.is_met(found) else 'over'}"


def _reasons(results: dict[str, dict[str, Any]]) -> dict[str, list[str]]:
    reasons: dict[str, list[str]] = {}
    for contender, result in results.items():
        reason = result.get("not_measured") or result.get("unavailable")
        if reason is not None:
            reasons.setdefault(reason, []).append(contender)
    return reasons


def _number(value: float, sign: str = "") -> str:
    """Return ``value`` with as many digits as mean something."""
    return f"{value:{sign},.0f}" if abs(value) >= 1000 else f"{value:{sign}.1f}"
