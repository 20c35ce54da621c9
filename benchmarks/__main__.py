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
    results = measure(arguments.cases, arguments.contenders, arguments.turns, console)
    if arguments.json is not None:
        arguments.json.write_text(json.dumps(summary(where, results), indent=1) + "\n")
    if arguments.picture is not None:
        draw(results, arguments.picture)


def measure(cases: list[str], names: list[str], turns: int | None, console: Console) -> Results:
    """Measure each contender in each case, contenders one after the other, so that they meet the same conditions."""
    unavailable: dict[str, dict[str, Any]] = {}
    results: Results = {case: {} for case in cases}
    for case in cases:
        for name in names:
            with console.status(f"{case}: {name}"):
                result = unavailable.get(name) or measure_in_new_process(case, name, turns)
            if "unavailable" in result:
                unavailable[name] = result
            results[case][name] = result
        print_case(console, case, results[case])
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
    parser.add_argument("--turns", type=int, help="pairs of turns (default: as many as a case needs)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="where to write the figures")
    parser.add_argument("--picture", type=Path, metavar="FILE", help="where to draw them (.svg, .png)")
    return parser


if __name__ == "__main__":
    main()
