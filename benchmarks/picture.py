"""A picture of what was measured: for each case, what every contender adds to the loop written by hand."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from benchmarks.cases import CASES
from benchmarks.figures import Comparison

COLUMNS = 3
OURS, THEIRS = "#c2410c", "#94a3b8"


def draw(cases: dict[str, dict[str, dict[str, Any]]], path: Path) -> None:
    """Write a picture of the figures to ``path``, in the format that its name ends with.

    Raises:
        ImportError: If matplotlib is not installed.
    """
    try:
        import matplotlib
    except ImportError as error:
        raise ImportError("--picture needs matplotlib: pip install 'trainkit[benchmarks]'") from error
    matplotlib.use("Agg")
    matplotlib.rcParams["svg.fonttype"] = "none"  # letters stay letters
    from matplotlib import pyplot

    measured = {name: found for name, found in ((name, _comparisons(name, cases[name])) for name in cases) if found}
    rows = -(-len(measured) // COLUMNS) or 1
    figure, axes = pyplot.subplots(rows, COLUMNS, figsize=(12, 2.4 * rows), squeeze=False)
    for axis, (name, found) in zip(axes.flat, measured.items(), strict=False):
        _panel(axis, name, found)
    for axis in list(axes.flat)[len(measured) :]:
        axis.set_axis_off()
    figure.tight_layout()
    figure.savefig(path)
    pyplot.close(figure)


def _comparisons(name: str, results: dict[str, dict[str, Any]]) -> dict[str, Comparison]:
    clock = CASES[name].clock
    shown = {who: result[clock] for who, result in results.items() if clock in result and who != "nothing"}
    return {who: Comparison.from_dict(figures) for who, figures in shown.items()}


def _panel(axis: Any, name: str, found: dict[str, Comparison]) -> None:
    ordered = sorted(found.items(), key=lambda item: item[1].difference.median, reverse=True)
    medians = [comparison.difference.median for _, comparison in ordered]
    colors = [OURS if who == "trainkit" else THEIRS for who, _ in ordered]
    bars = axis.barh([who for who, _ in ordered], medians, color=colors)
    axis.bar_label(bars, [f"{median:+,.1f}" for median in medians], padding=3, fontsize=7)
    axis.axvline(0, color="black", linewidth=0.8)
    axis.margins(x=0.25)
    axis.set_title(CASES[name].title, fontsize=8)
    axis.set_xlabel(f"{CASES[name].unit}, beyond the loop by hand", fontsize=7)
    axis.tick_params(labelsize=7)
    axis.spines[["top", "right"]].set_visible(False)
