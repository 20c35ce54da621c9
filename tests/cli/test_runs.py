from __future__ import annotations

import csv
import json
import os
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner, Result

from trainkit import Trainer
from trainkit.cli.main import main
from trainkit.testing import TinyData, TinyModule


def write(folder: Path, rows: list[dict[str, Any]], **settings: Any) -> None:
    folder.mkdir(parents=True)
    names = list(dict.fromkeys(name for row in rows for name in row))
    with open(folder / "metrics.csv", "w", newline="") as file:
        writer = csv.DictWriter(file, names)
        writer.writeheader()
        writer.writerows(rows)
    (folder / "config.yaml").write_text(yaml.safe_dump(settings))


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    write(
        tmp_path / "a",
        [{"step": 1, "epoch": 0, "val/loss": 3.0}, {"step": 9, "epoch": 2, "val/loss": 2.0}],
        lr=0.1,
        width=8,
    )
    write(tmp_path / "b", [{"step": 5, "epoch": 1, "val/loss": 1.0}, {"step": 7, "val/loss": 4.0}], lr=0.2, width=8)
    write(tmp_path / "deep" / "c", [{"step": 2, "epoch": 0, "val/loss": "nan"}], lr=0.1, width=8, module={"depth": 3})
    for age, name in enumerate(("a", "b", "deep/c")):
        os.utime(tmp_path / name / "metrics.csv", (1_700_000_000 - age, 1_700_000_000 - age))
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "metrics.csv").write_text("time,value\n1,2\n")
    return tmp_path


def told(*arguments: object) -> Result:
    return CliRunner().invoke(main, ["runs", *map(str, arguments)])


def test_the_newest_come_first_with_their_best_values(runs: Path) -> None:
    rows = json.loads(told(runs, "--form", "json").output)
    assert [(row["run"], row["epoch"], row["step"], row["val/loss"]) for row in rows[:2]] == [
        ("a", 2, 9, 2.0),
        ("b", 1, 7, 1.0),
    ]
    assert len(rows) == 3


@pytest.mark.parametrize(("flags", "order"), [([], ["b", "a", "deep/c"]), (["--max"], ["b", "a", "deep/c"])])
def test_a_metric_sorts_and_what_is_lost_comes_last(runs: Path, flags: list[str], order: list[str]) -> None:
    rows = json.loads(told(runs, "--metric", "val/loss", *flags, "--form", "json").output)
    assert [row["run"] for row in rows] == order
    assert rows[0]["val/loss"] == (4.0 if flags else 1.0)


def test_only_what_differs_is_compared(runs: Path) -> None:
    rows = json.loads(told(runs, "--metric", "val/loss", "--compare", "--form", "json").output)
    assert rows[0] == {"": "lr", "b": 0.2, "a": 0.1, "deep/c": 0.1}
    assert rows[1] == {"": "module.depth", "b": None, "a": None, "deep/c": 3}
    assert rows[2][""] == "val/loss" and rows[2]["b"] == 1.0


def test_the_table_and_csv_hold_the_same(runs: Path) -> None:
    lines = told(runs).output.splitlines()
    assert lines[0].split() == ["run", "epoch", "step", "ended", "written", "val/loss"]
    assert lines[1].split()[0] == "a" and lines[1].split()[-1] == "2"
    rows = list(csv.DictReader(told(runs, "--form", "csv").output.splitlines()))
    assert [row["run"] for row in rows] == ["a", "b", "deep/c"]


def test_how_a_run_has_ended_is_told(runs: Path) -> None:
    (runs / "a" / "summary.json").write_text('{"status": "stopped", "started": ""}')
    rows = json.loads(told(runs, "--form", "json").output)
    assert [row["ended"] for row in rows] == ["stopped", None, None]


def test_what_is_wrong_is_named(runs: Path, tmp_path: Path) -> None:
    wrong = told(runs, "--metric", "val/los")
    assert wrong.exit_code == 2 and "did you mean 'val/loss'?" in wrong.output
    assert "there is no metrics.csv of a run" in told(runs / "other" / "nothing").output


def test_a_real_run_is_found(tmp_path: Path) -> None:
    arguments: dict[str, Any] = {"enable_progress_bar": False, "enable_model_summary": False, "accelerator": "cpu"}
    trainer = Trainer(max_epochs=2, default_root_dir=tmp_path, log_every_n_steps=1, **arguments)
    trainer.fit(TinyModule(), TinyData(3), TinyData(1))
    (row,) = json.loads(told(tmp_path, "--form", "json").output)
    assert (row["epoch"], row["step"]) == (1, 6) and row["val/loss"] > 0
