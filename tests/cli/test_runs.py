from __future__ import annotations

import csv
import json
import os
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner, Result

from trainkit import Trainer
from trainkit.cli.main import main
from trainkit.loggers import TensorBoardLogger
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
        ("a", 3, 9, 2.0),
        ("b", 2, 7, 4.0),
    ]
    assert len(rows) == 3 and rows[0]["shown"] == {"val/loss": "last"}
    assert rows[2]["val/loss"] == "nan", "which JSON lacks as a number"
    assert told(runs, "--json").output == told(runs, "--form", "json").output


def monitored(folder: Path, mode: str, name: str = "val/loss") -> None:
    """Let a run have monitored a metric."""
    values = {"last": 0, "mode": mode, "best": 0, "best_step": 0}
    summary = {"status": "finished", "started": "", "metrics": {name: values}}
    (folder / "summary.json").write_text(json.dumps(summary))


@pytest.mark.parametrize("says", ["flag", "run"])
@pytest.mark.parametrize(("mode", "best"), [("min", [1.0, 2.0, None]), ("max", [4.0, 3.0, None])])
def test_a_metric_sorts_and_what_is_lost_comes_last(runs: Path, says: str, mode: str, best: list[float | None]) -> None:
    if says == "run":
        monitored(runs / "a", mode)
    flags = [f"--{mode}"] if says == "flag" else []
    result = told(runs, "--metric", "val/loss", *flags, "--json")
    rows = json.loads(result.stdout)
    assert [row["run"] for row in rows] == ["b", "a", "deep/c"] and not result.stderr
    assert [row["val/loss"] for row in rows] == best
    assert f"val/loss ({mode})" in told(runs, *flags).output.splitlines()[0]


def test_where_no_mode_is_known_or_two_are_the_last_value_is_shown_and_nothing_sorted(runs: Path) -> None:
    for _ in range(2):
        result = told(runs, "--metric", "val/loss", "--json")
        rows = json.loads(result.stdout)
        assert [(row["run"], row["val/loss"]) for row in rows] == [("a", 2.0), ("b", 4.0), ("deep/c", "nan")]
        assert "--min or --max says it" in result.stderr
        assert "val/loss (last)" in told(runs).output
        monitored(runs / "a", "min")
        monitored(runs / "b", "max")


def test_only_what_differs_is_compared(runs: Path) -> None:
    rows = json.loads(told(runs, "--metric", "val/loss", "--min", "--compare", "--form", "json").output)
    assert rows[0] == {"": "lr", "b": 0.2, "a": 0.1, "deep/c": 0.1}
    assert rows[1] == {"": "module.depth", "b": None, "a": None, "deep/c": 3}
    assert rows[2] == {"": "val/loss (min)", "b": 1.0, "a": 2.0, "deep/c": None}


def test_the_table_and_csv_hold_the_same(runs: Path) -> None:
    lines = told(runs).output.splitlines()
    assert lines[0].split() == ["run", "epoch", "step", "ended", "val/loss", "(last)", "written"]
    assert lines[1].split()[:5] == ["a", "3", "9", "-", "2"]
    rows = list(csv.DictReader(told(runs, "--form", "csv").output.splitlines()))
    assert [row["run"] for row in rows] == ["a", "b", "deep/c"]


def test_how_a_run_has_ended_is_told(runs: Path) -> None:
    (runs / "a" / "summary.json").write_text('{"status": "stopped", "started": ""}')
    rows = json.loads(told(runs, "--form", "json").output)
    assert [row["ended"] for row in rows] == ["stopped", None, None]


def test_lines_fit_the_terminal(runs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(8):
        write(runs / ("long" * 30) / f"version_{number}", [{"step": 1, f"val/{'x' * 30}{number}": 0.5}], lr=number)
    for width in (40, 80, 200):
        monkeypatch.setenv("COLUMNS", str(width))
        for flags in ([], ["--compare"]):
            lines = told(runs, *flags).output.splitlines()
            assert max(map(len, lines)) <= width
            assert sum("version_7" in line for line in lines) >= 1


def test_a_spoiled_table_costs_no_other_run(runs: Path) -> None:
    (runs / "a" / "metrics.csv").write_text("step,val/loss\ninf,1\n")
    (runs / "b" / "metrics.csv").write_text(f"step,val/loss\n1,{'9' * 200_000}\n")
    result = told(runs, "--json")
    assert [row["run"] for row in json.loads(result.stdout)] == ["deep/c"]
    assert result.stderr.count("is left out, since its table is spoiled") == 2


def test_what_is_wrong_is_named(runs: Path, tmp_path: Path) -> None:
    wrong = told(runs, "--metric", "val/los")
    assert wrong.exit_code == 2 and "did you mean 'val/loss'?" in wrong.output
    assert "there is no metrics.csv, summary.json or run.json of a run" in told(runs / "other" / "nothing").output


def test_a_real_run_is_found(tmp_path: Path) -> None:
    arguments: dict[str, Any] = {"enable_progress_bar": False, "enable_model_summary": False, "accelerator": "cpu"}
    trainer = Trainer(max_epochs=2, default_root_dir=tmp_path, log_every_n_steps=1, **arguments)
    trainer.fit(TinyModule(), TinyData(3), TinyData(1))
    (row,) = json.loads(told(tmp_path, "--form", "json").output)
    assert (row["epoch"], row["step"], row["ended"]) == (2, 6, "finished") and row["val/loss"] > 0


@pytest.mark.parametrize("logger", [True, False])
def test_a_run_without_a_table_is_found_and_one_that_has_failed_at_once(tmp_path: Path, logger: bool) -> None:
    class Fails:
        def on_train_start(self) -> None:
            raise RuntimeError("no more")

    made: dict[str, Any] = {"enable_progress_bar": False, "enable_model_summary": False, "accelerator": "cpu"}
    callbacks = [] if logger else [Fails()]
    trainer = Trainer(max_epochs=2, default_root_dir=tmp_path, logger=TensorBoardLogger(), callbacks=callbacks, **made)
    with nullcontext() if logger else pytest.raises(RuntimeError):
        trainer.fit(TinyModule(), TinyData(3), TinyData(1))
    (row,) = json.loads(told(tmp_path, "--json").output)
    expected = (2, 6, "finished") if logger else (None, 0, "failed")
    assert (row["epoch"], row["step"], row["ended"]) == expected
    assert ("val/loss" in row) is logger
