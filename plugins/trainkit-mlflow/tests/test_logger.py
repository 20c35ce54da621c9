"""With the real client and a local SQLite store."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from mlflow.tracking import MlflowClient
from trainkit_mlflow import MLflowLogger

import trainkit
from trainkit.callbacks import ModelCheckpoint
from trainkit.testing import TinyData, TinyModule, check_logger, quiet_trainer


@pytest.fixture(autouse=True)
def in_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.chdir(tmp_path)


def fit(folder: Path, logger: MLflowLogger, **arguments: Any) -> trainkit.Trainer:
    options: dict[str, Any] = {"max_epochs": 2, "log_every_n_steps": 1, "default_root_dir": str(folder), **arguments}
    ckpt_path, lr = options.pop("ckpt_path", None), options.pop("lr", 0.1)
    trainer = quiet_trainer(logger=logger, **options)
    trainer.fit(TinyModule(lr=lr), TinyData(3), TinyData(1), ckpt_path=ckpt_path)
    return trainer


def client(logger: MLflowLogger) -> MlflowClient:
    return MlflowClient(logger.tracking_uri)


def test_it_keeps_the_contract_of_loggers(tmp_path: Path) -> None:
    check_logger(lambda folder: MLflowLogger("contract", save_dir=folder), tmp_path)


def test_rows_parameters_and_the_end_are_in_the_store(tmp_path: Path) -> None:
    logger = MLflowLogger("digits", run_name="first", tags={"kind": "tried"})
    fit(tmp_path, logger)
    run = client(logger).get_run(logger.run_id)
    assert (run.info.status, run.info.run_name, run.data.tags["kind"]) == ("FINISHED", "first", "tried")
    assert run.data.params["lr"] == "0.1"
    history = client(logger).get_metric_history(logger.run_id, "train/loss")
    assert [each.step for each in history] == list(range(1, 7))
    assert client(logger).get_metric_history(logger.run_id, "val/loss")


def test_a_run_that_goes_on_goes_on_in_the_same_run(tmp_path: Path) -> None:
    first = MLflowLogger("digits")
    fit(tmp_path, first, max_epochs=1, enable_checkpointing=True)
    second = MLflowLogger("digits")
    fit(tmp_path, second, enable_checkpointing=True, ckpt_path="last", lr=0.2)
    assert second.run_id == first.run_id
    run = client(first).get_run(first.run_id)
    assert (run.info.status, run.data.params["lr"], run.data.tags["goes on with lr"]) == ("FINISHED", "0.1", "0.2")
    assert [each.step for each in client(first).get_metric_history(first.run_id, "train/loss")] == list(range(1, 7))


def test_checkpoints_are_artifacts_and_runs_can_be_nested(tmp_path: Path) -> None:
    parent = MLflowLogger("digits")
    fit(tmp_path, parent)
    saver = ModelCheckpoint(monitor="val/loss", dirpath=tmp_path / "saved")
    child = MLflowLogger("digits", parent_run_id=parent.run_id, log_model="best")
    fit(tmp_path, child, callbacks=[saver], enable_checkpointing=True)
    sent = client(child).list_artifacts(child.run_id, "checkpoints/best")
    assert [Path(each.path).name for each in sent] == [Path(saver.best_model_path).name]
    assert client(child).get_run(child.run_id).data.tags["mlflow.parentRunId"] == parent.run_id


def test_an_error_is_a_run_that_failed(tmp_path: Path) -> None:
    class Fails:
        def on_train_end(self) -> None:
            raise RuntimeError("no")

    logger = MLflowLogger("digits")
    with pytest.raises(RuntimeError, match="no"):
        fit(tmp_path, logger, callbacks=[Fails()])
    assert client(logger).get_run(logger.run_id).info.status == "FAILED"


def test_a_server_that_is_away_stops_nothing(tmp_path: Path) -> None:
    (tmp_path / "no_folder").touch()  # below which nobody can make one, whatever their rights are
    logger = MLflowLogger("digits", f"sqlite:///{tmp_path}/no_folder/mlflow.db", patience_s=1)
    with pytest.warns(UserWarning, match="could not be sent"):
        trainer = fit(tmp_path, logger)
    assert trainer.global_step == 6
    assert list(tmp_path.rglob("unsent.jsonl"))


def test_it_is_found_by_its_name(tmp_path: Path) -> None:
    config = {
        "module": {"_target_": "trainkit.testing.TinyModule"},
        "trainer": {"logger": {"use": "mlflow", "experiment_name": "digits"}, "default_root_dir": str(tmp_path)},
    }
    trainer, _, _ = trainkit.from_config(config)
    assert isinstance(trainer.logger, MLflowLogger) and trainer.logger.experiment_name == "digits"
