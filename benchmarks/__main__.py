"""Measure what trainkit and its peers cost beside the loop one would write by hand."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from rich.console import Console

from benchmarks import contenders, machine
from benchmarks.cases import CASES
from benchmarks.pair import measure_in_new_process
from benchmarks.picture import draw
from benchmarks.report import print_case

Results = dict[str, dict[str, dict[str, Any]]]


def main() -> None:
    """Measure, print tables, and write what was asked for."""
    arguments = _parser().parse_args()
    console = Console()
    where = machine.describe()
    console.print(", ".join(f"{key} {value}" for key, value in where.items() if value is not None), highlight=False)
    results: Results = {}
    for case in arguments.cases:
        results[case] = measure(case, arguments.contenders, arguments.turns, results, console)
        print_case(console, case, results[case])
        if arguments.json is not None:  # after each case, as a whole run takes long
            arguments.json.write_text(json.dumps(summary(where, results), indent=1) + "\n")
    if arguments.picture is not None:
        draw(results, arguments.picture)


def measure(
    case: str, names: list[str], turns: int | None, before: Results, console: Console
) -> dict[str, dict[str, Any]]:
    """Let contenders do ``case`` one after the other, so that they meet the same conditions.

    One that could not be imported in the cases ``before`` is not tried again.
    """
    unavailable = {name: result for done in before.values() for name, result in done.items() if "unavailable" in result}
    results = {}
    for name in names:
        with console.status(f"{case}: {name}"):
            results[name] = unavailable.get(name) or measure_in_new_process(case, name, turns)
    return results


def summary(where: dict[str, Any], results: Results) -> dict[str, Any]:
    """Return everything that is written as JSON."""
    found = {name: result for case in results.values() for name, result in case.items()}
    return {
        "machine": where,
        "versions": {name: result["version"] for name, result in found.items() if "version" in result},
        "unavailable": {name: result["unavailable"] for name, result in found.items() if "unavailable" in result},
        "cases": {
            name: {"title": CASES[name].title, "unit": CASES[name].unit, "clock": CASES[name].clock, "results": result}
            for name, result in results.items()
        },
    }


def _parser() -> argparse.ArgumentParser:
    default = [name for name, case in CASES.items() if case.by_default]
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description=__doc__,
        epilog="cases: " + "; ".join(f"{name} ({case.title})" for name, case in CASES.items()),
    )
    parser.add_argument("--cases", nargs="+", choices=CASES, default=default, metavar="CASE", help="what to measure")
    parser.add_argument(
        "--contenders",
        nargs="+",
        choices=contenders.NAMES,
        default=list(contenders.NAMES),
        metavar="NAME",
        help=f"what to measure it with: {', '.join(contenders.NAMES)}",
    )
    parser.add_argument("--turns", type=int, help="pairs of turns at most; each case has a number of its own")
    parser.add_argument("--json", type=Path, metavar="FILE", help="where to write the figures")
    parser.add_argument("--picture", type=Path, metavar="FILE", help="where to draw them (.svg, .png)")
    return parser


if __name__ == "__main__":
    main()
