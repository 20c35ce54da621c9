from __future__ import annotations

import argparse
import csv
from pathlib import Path
from typing import Any

import torch
import yaml

import trainkit.compat.lightning as pl
from trainkit.compat.lightning.loggers.logger import DummyLogger, rank_zero_experiment
from trainkit.compat.lightning.utilities import rank_zero_only
from trainkit.testing import TinyData, TinyModule, quiet_trainer


class Module(pl.LightningModule, TinyModule):
    """A module in Lightning's words, with hyperparameters."""


class ListLogger(pl.loggers.Logger):
    """A logger as the documentation of Lightning shows one: no folder, and no call of super()."""

    def __init__(self) -> None:
        self.events: list[Any] = []

    @property
    def name(self) -> str:
        return "list"

    @property
    def version(self) -> str:
        return "0.1"

    @property
    @rank_zero_experiment
    def experiment(self) -> Any:
        return self.events

    @rank_zero_only
    def log_hyperparams(self, params: Any, *args: Any, **kwargs: Any) -> None:
        self.events.append(("hyperparameters", dict(params)))

    @rank_zero_only
    def log_metrics(self, metrics: Any, step: int) -> None:
        self.events.append(("metrics", sorted(metrics), step))

    @rank_zero_only
    def finalize(self, status: str) -> None:
        self.events.append(("end", status))


def test_a_logger_of_the_users_own_follows_a_run(tmp_path: Path) -> None:
    logger = ListLogger()

    class Writes(Module):
        def on_train_end(self) -> None:
            self.logger.experiment.append("by hand")

    trainer = quiet_trainer(logger=logger, log_every_n_steps=1, default_root_dir=tmp_path, enable_checkpointing=True)
    trainer.fit(Writes(), TinyData(1))
    assert logger.events == [
        ("hyperparameters", {"in_features": 4, "out_features": 2, "lr": 0.1, "seed": 0} | trainer.settings),
        ("metrics", ["epoch", "train/loss"], 1),
        "by hand",
        ("end", "success"),
    ]
    assert logger.save_dir is None
    assert logger.log_dir == str(tmp_path / "list" / "0.1"), "what others save goes below default_root_dir"
    assert list(tmp_path.glob("list/0.1/checkpoints/*.ckpt"))


def test_loggers_write_under_lightning_logs(tmp_path: Path) -> None:
    tensorboard, table = (
        pl.loggers.TensorBoardLogger(tmp_path),
        pl.loggers.CSVLogger(tmp_path, "lightning_logs", 7, "p"),
    )
    quiet_trainer(logger=[tensorboard, table], log_every_n_steps=1).fit(Module(), TinyData(1))
    assert list((tmp_path / "lightning_logs" / "version_0").glob("events.out.tfevents.*"))
    (row,) = csv.DictReader((tmp_path / "lightning_logs" / "version_7" / "metrics.csv").read_text().splitlines())
    assert "p-train/loss" in row


def test_hyperparameters_may_be_a_namespace(tmp_path: Path) -> None:
    for logger in (pl.loggers.TensorBoardLogger(tmp_path / "t"), pl.loggers.CSVLogger(tmp_path / "c")):
        logger.log_hyperparams(argparse.Namespace(width=3))
        logger.finalize("success")
        assert yaml.safe_load(Path(logger.log_dir, "hparams.yaml").read_text()) == {"width": 3}


def test_the_graph_is_drawn_when_a_fit_starts(tmp_path: Path) -> None:
    module = Module()
    module.example_input_array = torch.zeros(1, 4)
    logger = pl.loggers.TensorBoardLogger(tmp_path, log_graph=True, default_hp_metric=False, max_queue=5)
    quiet_trainer(logger=logger).fit(module, TinyData(1))

    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(logger.log_dir)
    events.Reload()
    assert events.Tags()["graph"]


def test_a_dummy_takes_what_any_logger_takes() -> None:
    logger = DummyLogger()
    logger.log_image("name", [])
    logger.experiment.add_figure("name", None)
    assert logger.log_metrics({"loss": 1.0}, 3) is None


def test_a_table_is_written_by_hand_through_its_experiment(tmp_path: Path) -> None:
    class Writes(Module):
        def on_train_end(self) -> None:
            self.logger.experiment.log_metrics({"by hand": 2.0}, step=7)
            self.logger.experiment.log_hparams({"seen": True})
            self.logger.experiment.save()

    logger = pl.loggers.CSVLogger(tmp_path, "", "run")
    quiet_trainer(logger=logger).fit(Writes(), TinyData(1))
    rows = list(csv.DictReader(Path(logger.experiment.metrics_file_path).read_text().splitlines()))
    assert [(row["step"], row["by hand"]) for row in rows if row["by hand"]] == [("7", "2.0")]
    assert logger.experiment.log_dir == str(tmp_path / "run")
    assert yaml.safe_load((tmp_path / "run" / "hparams.yaml").read_text())["seen"] is True
