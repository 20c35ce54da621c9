from __future__ import annotations

import io
import json
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path

import pytest
from rich.console import Console

from benchmarks import contenders
from benchmarks.figures import Comparison
from benchmarks.pair import measure_in_new_process
from benchmarks.report import print_case

SLOWER = {"cpu": asdict(Comparison.of([100.0], [150.0]))}


@pytest.mark.slow
def test_command_writes_what_it_measured(tmp_path):
    path = tmp_path / "figures.json"
    command = [sys.executable, "-m", "benchmarks", "--cases", "bare", "--contenders", "trainkit", "--turns", "2"]
    done = subprocess.run(
        [*command, "--json", str(path)], capture_output=True, text=True, check=True, cwd=Path(__file__).parents[2]
    )
    assert "bare step" in done.stdout

    figures = json.loads(path.read_text())
    assert set(figures) == {"machine", "versions", "unavailable", "cases"}
    assert {"processor", "cores", "load", "gpu", "python", "torch"} <= set(figures["machine"])
    assert set(figures["versions"]) == {"trainkit"}
    case = figures["cases"]["bare"]
    assert case["unit"] == "us a step"
    assert case["clock"] == "cpu"
    for clock in ("cpu", "wall"):
        found = case["results"]["trainkit"][clock]
        assert set(found) == {"hand", "contender", "difference", "ratio", "pairs"}
        assert set(found["difference"]) == {"median", "low", "high"}
        assert found["hand"]["median"] > 0


def test_what_cannot_be_imported_is_a_result():
    assert measure_in_new_process("bare", "nobody", 1) == {
        "unavailable": "ModuleNotFoundError: No module named 'benchmarks.contenders.with_nobody'"
    }


def test_what_a_contender_raises_is_a_result():
    assert (
        measure_in_new_process("no such case", "trainkit", 1)["not_measured"] == "fails with KeyError: 'no such case'"
    )


def test_a_process_that_dies_is_a_result(monkeypatch):
    monkeypatch.setattr(sys, "executable", "/bin/false")
    assert measure_in_new_process("bare", "trainkit", 1) == {"not_measured": "the process ended with exit status 1"}


def test_what_takes_too_long_is_a_result():
    assert measure_in_new_process("bare", "trainkit", 1, timeout_s=0.01) == {"not_measured": "took longer than 0 s"}


def test_tables_show_who_misses_a_budget_and_who_has_no_figures():
    console = Console(file=io.StringIO(), width=120)
    results = {"trainkit": SLOWER, "lightning": SLOWER, "keras": {"unavailable": "no module named keras"}}
    print_case(console, "bare", results)
    text = console.file.getvalue()
    assert "+5 over" in text
    assert text.count("over") == 1, "only trainkit has a budget"
    assert "keras (no module named keras)" in text
    assert "+50.0" in text


def test_every_contender_is_a_file():
    assert contenders.NAMES[0] == "trainkit"
    assert "lightning" in contenders.NAMES
    assert len(set(contenders.NAMES)) == len(contenders.NAMES)


def test_picture_has_a_panel_for_each_case_that_was_measured(tmp_path):
    pytest.importorskip("matplotlib")
    from benchmarks.picture import draw

    path = tmp_path / "picture.svg"
    draw({"bare": {"trainkit": SLOWER}, "usual": {"trainkit": {"not_measured": "why"}}}, path)
    assert path.read_text().count('id="axes_') >= 1
