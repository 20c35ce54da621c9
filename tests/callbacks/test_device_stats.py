from __future__ import annotations

import csv

import pytest

from trainkit.callbacks import Callback, CSVLogger, DeviceStatsMonitor
from trainkit.loggers.dummy import DummyLogger
from trainkit.testing import TinyData, TinyModule, quiet_trainer


@pytest.mark.parametrize(("cpu_stats", "columns"), [(None, 6), (True, 6), (False, 0)])
def test_figures_of_the_cpu_go_to_the_loggers_with_every_row(tmp_path, cpu_stats, columns):
    logger = CSVLogger(tmp_path)
    trainer = quiet_trainer(logger=logger, log_every_n_steps=2, callbacks=[DeviceStatsMonitor(cpu_stats)])
    trainer.fit(TinyModule(), TinyData(4))
    rows = list(csv.DictReader(logger.metrics_file.read_text().splitlines()))
    names = [name for name in rows[0] if name.startswith("DeviceStatsMonitor.on_train_batch_")]
    assert len(names) == columns
    assert {row["step"] for row in rows if any(row[name] for name in names)} == ({"2", "4"} if columns else set())
    assert all(float(row[name]) >= 0 for row in rows for name in names if row[name])


@pytest.mark.parametrize(
    ("every", "expected"), [("2 steps", [2, 4]), ("4 samples", [2, 3, 4]), ("1 epoch", [4]), ("1 h", [])]
)
def test_both_rows_of_a_batch_are_there_where_it_has_a_row_by_another_unit(every, expected):
    class Rows(Callback):
        def __init__(self):
            self.rows = []

        def on_log(self, metrics, step):
            self.rows += [(step, next(iter(metrics)).split("/")[0])] if "cpu_time_s" in str(metrics) else []

    kept = Rows()
    trainer = quiet_trainer(logger=DummyLogger(), log_every_n_steps=every, callbacks=[DeviceStatsMonitor(), kept])
    trainer.fit(TinyModule(), TinyData(4))
    hooks = ("DeviceStatsMonitor.on_train_batch_start", "DeviceStatsMonitor.on_train_batch_end")
    assert kept.rows == [(step, hook) for step in expected for hook in hooks]
