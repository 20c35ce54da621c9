from __future__ import annotations

import json
from pathlib import Path

import pytest

from trainkit.loggers.runs import find_runs


def test_a_run_is_read_with_its_settings(tmp_path: Path) -> None:
    (tmp_path / "metrics.csv").write_text("step,epoch,loss,note\n1,0,2.5,\n2,0,1.5,x\n4,1,,\n")
    (tmp_path / "hparams.yaml").write_text("lr: 0.1\nnet: {width: 3, empty: {}}\n")
    (run,) = find_runs(tmp_path)
    assert (run.folder, run.step, run.epoch) == (tmp_path, 4, 1)
    assert list(run.metrics) == ["loss"] and run.metrics["loss"].least == 1.5
    assert run.settings == {"lr": 0.1, "net.width": 3, "net.empty": {}}
    (tmp_path / "config.yaml").write_text("module: {lr: 0.2}\n")
    (run,) = find_runs(tmp_path)
    assert run.settings == {"module.lr": 0.2}


def test_other_tables_and_broken_settings_are_passed_over(tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "metrics.csv").write_text("time,loss\n1,2\n")
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / "metrics.csv").write_text("")
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "metrics.csv").write_text("step,loss\n1,2\n")
    (tmp_path / "run" / "config.yaml").write_text("a: [1\n")
    (run,) = find_runs(tmp_path)
    assert run.folder.name == "run" and run.settings == {}


def test_how_a_run_has_ended_is_read_from_its_summary(tmp_path: Path) -> None:
    (tmp_path / "metrics.csv").write_text("step,epoch,loss\n1,0,2.5\n")
    (run,) = find_runs(tmp_path)
    assert run.ended is None
    (tmp_path / "summary.json").write_text('{"status": "failed", "started": ""}')
    (run,) = find_runs(tmp_path)
    assert run.ended == "failed"


def test_the_newest_configuration_is_that_of_the_run(tmp_path: Path) -> None:
    (tmp_path / "metrics.csv").write_text("step,loss\n1,2\n")
    for version, name in enumerate(["config.yaml", "config-v1.yaml", "config-v2.yaml", "config-v10.yaml"]):
        (tmp_path / name).write_text(f"lr: {version}\n")
        (run,) = find_runs(tmp_path)
        assert run.settings == {"lr": version}
    (tmp_path / "config-v11.yaml").write_text("a: [1\n")
    (run,) = find_runs(tmp_path)
    assert run.settings == {"lr": 3}


def test_a_run_without_a_table_is_told_by_its_summary(tmp_path: Path) -> None:
    (tmp_path / "run.json").write_text('{"starts": [{}]}')
    (run,) = find_runs(tmp_path)
    assert (run.step, run.epoch, run.metrics, run.ended) == (0, None, {}, None) and run.changed_at > 0
    metrics = {
        "a": {"last": "nan", "mode": "max", "best": 2, "best_step": 1},
        "b": {"last": 1.5, "min": 1, "max": None},
        "c": 3,
    }
    summary = {"status": "finished", "started": "", "epochs": 2, "steps": 9, "metrics": metrics}
    (tmp_path / "summary.json").write_text(json.dumps(summary))
    (run,) = find_runs(tmp_path)
    assert (run.step, run.epoch, run.ended, run.modes) == (9, 1, "finished", {"a": "max"})
    assert (run.metrics["a"].greatest, run.metrics["a"].least) == (2, None)
    assert (run.metrics["b"].last, run.metrics["b"].least, run.metrics["b"].greatest) == (1.5, 1, None)
    assert set(run.metrics) == {"a", "b"}


@pytest.mark.parametrize("text", ["{}", '{"status": "finished"}', '{"starts": 1}', "["])
def test_files_of_others_make_no_run(tmp_path: Path, text: str) -> None:
    for name in ("summary.json", "run.json"):
        (tmp_path / name).write_text(text)
    assert find_runs(tmp_path) == []


@pytest.mark.parametrize("metrics", [[], 1, None, {"a": 1}, {"a": {"last": "x", "mode": [], "best": {}}}])
@pytest.mark.parametrize("steps", ["inf", 1.5, None, []])
def test_a_summary_with_anything_in_it_costs_nothing(tmp_path: Path, metrics: object, steps: object) -> None:
    summary = {"status": "failed", "started": "", "steps": steps, "epochs": steps, "metrics": metrics}
    (tmp_path / "summary.json").write_text(json.dumps(summary))
    (run,) = find_runs(tmp_path)
    assert (run.step, run.epoch, run.ended, run.modes) == (0, None, "failed", {})


@pytest.mark.parametrize("row", ["inf,1", "nan,1", "-inf,1", "1e999,1", f"1,{'9' * 200_000}"])
def test_a_spoiled_table_is_left_out_and_told(tmp_path: Path, row: str, capsys: pytest.CaptureFixture[str]) -> None:
    for name in "ab":
        (tmp_path / name).mkdir()
        (tmp_path / name / "metrics.csv").write_text("step,loss\n1,2\n")
    (tmp_path / "a" / "metrics.csv").write_text(f"step,loss\n1,2\n{row}\n")
    (run,) = find_runs(tmp_path)
    assert run.folder.name == "b"
    assert capsys.readouterr().err.startswith(f"note: {tmp_path / 'a'} is left out, since its table is spoiled: ")


def test_beside_a_table_of_somebody_else_the_run_has_one_of_its_own(tmp_path: Path) -> None:
    (tmp_path / "metrics.csv").write_text("step,loss\n1,2\n")
    (tmp_path / "metrics-v1.csv").write_text("step,loss\n5,7\n")
    (run,) = find_runs(tmp_path)
    assert (run.step, run.metrics["loss"].last) == (5, 7)
