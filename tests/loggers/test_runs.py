from __future__ import annotations

import math
from pathlib import Path

from trainkit.loggers.runs import MetricSummary, find_runs


def test_a_summary_knows_the_best_values_and_where_they_were() -> None:
    summary = MetricSummary()
    for step, value in enumerate((3.0, math.nan, 1.0, 5.0, 2.0)):
        summary.add(value, step)
    assert (summary.last, summary.least, summary.least_at) == (2.0, 1.0, 2)
    assert (summary.greatest, summary.greatest_at) == (5.0, 3)


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
