"""With the real client, in offline mode: what it has written is read back from its files."""

from __future__ import annotations

import json
import os
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from trainkit_wandb import WandbLogger
from wandb.proto import wandb_internal_pb2

import trainkit
from trainkit.callbacks import ModelCheckpoint
from trainkit.testing import TinyData, TinyModule, check_logger, quiet_trainer


@pytest.fixture(autouse=True)
def offline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_SILENT", "true")
    monkeypatch.setenv("WANDB_DIR", str(tmp_path))
    monkeypatch.chdir(tmp_path)


def records(folder: Path) -> list[Any]:
    """Return all records of the offline runs below a folder, the oldest run first."""
    found = []
    for path in sorted(folder.rglob("*.wandb"), key=os.path.getmtime):
        for data in parts(path.read_bytes()):
            record = wandb_internal_pb2.Record()
            record.ParseFromString(data)
            found.append(record)
    return found


def parts(data: bytes) -> Iterator[bytes]:
    """Yield the records of a file in the log format of LevelDB, in blocks of 32 KiB, behind a header of 7 bytes."""
    at, joined = 7, b""
    while at + 7 <= len(data):
        if 32768 - at % 32768 < 7:  # the rest of a block is too short for a record
            at += 32768 - at % 32768
            continue
        size, kind = struct.unpack_from("<HB", data, at + 4)
        joined += data[at + 7 : at + 7 + size]
        at += 7 + size
        if kind in (1, 4):  # the whole of a record, or its last part
            yield joined
            joined = b""


def rows(folder: Path) -> list[dict[str, Any]]:
    """Return the rows, without what W&B adds itself."""
    found = []
    for record in records(folder):
        if record.WhichOneof("record_type") == "history":
            items = {each.key or ".".join(each.nested_key): json.loads(each.value_json) for each in record.history.item}
            found.append({name: value for name, value in items.items() if not name.startswith("_")})
    return found


def fit(folder: Path, logger: WandbLogger, **arguments: Any) -> trainkit.Trainer:
    options: dict[str, Any] = {"max_epochs": 2, "log_every_n_steps": 1, "default_root_dir": str(folder), **arguments}
    ckpt_path = options.pop("ckpt_path", None)
    trainer = quiet_trainer(logger=logger, **options)
    trainer.fit(TinyModule(), TinyData(3), TinyData(1), ckpt_path=ckpt_path)
    return trainer


def test_it_keeps_the_contract_of_loggers(tmp_path: Path) -> None:
    check_logger(lambda folder: WandbLogger("contract", save_dir=folder), tmp_path)


def test_rows_and_hyperparameters_are_in_the_run(tmp_path: Path) -> None:
    fit(tmp_path, WandbLogger("digits", tags=["tried"]))
    logged = rows(tmp_path)
    assert [row["trainer/global_step"] for row in logged if "train/loss" in row] == list(range(1, 7))
    assert any("val/loss" in row for row in logged)
    configs = [each for record in records(tmp_path) for each in (*record.run.config.update, *record.config.update)]
    assert any(each.key == "lr" and each.value_json == "0.1" for each in configs)
    (run,) = {record.run.project for record in records(tmp_path) if record.WhichOneof("record_type") == "run"}
    assert run == "digits"


def test_a_run_that_goes_on_goes_on_in_the_same_run(tmp_path: Path) -> None:
    first = WandbLogger("digits")
    fit(tmp_path, first, max_epochs=1, enable_checkpointing=True)
    fit(tmp_path, WandbLogger("digits"), enable_checkpointing=True, ckpt_path="last")
    ids = [record.run.run_id for record in records(tmp_path) if record.WhichOneof("record_type") == "run"]
    assert set(ids) == {first.id}
    fit(tmp_path / "other", WandbLogger("digits"))
    ids = [record.run.run_id for record in records(tmp_path / "other") if record.WhichOneof("record_type") == "run"]
    assert set(ids) != {first.id}


def test_images_and_checkpoints_are_sent(tmp_path: Path) -> None:
    class Draws:
        def on_train_end(self, trainer: trainkit.Trainer) -> None:
            trainer.logger.log_image("samples", [torch.rand(3, 4, 4)], caption=["noise"])

    saver = ModelCheckpoint(monitor="val/loss", dirpath=tmp_path / "saved")
    logger = WandbLogger("digits", log_model="best")
    fit(tmp_path, logger, callbacks=[saver, Draws()], enable_checkpointing=True)
    assert any("samples" in key for row in rows(tmp_path) for key in row)
    kinds = [record.WhichOneof("record_type") for record in records(tmp_path)]
    requests = [record.request.WhichOneof("request_type") for record in records(tmp_path) if record.HasField("request")]
    assert "artifact" in kinds or "log_artifact" in requests


def test_it_is_found_by_its_name(tmp_path: Path) -> None:
    config = {
        "module": {"_target_": "trainkit.testing.TinyModule"},
        "trainer": {"logger": {"use": "wandb", "project": "digits"}, "default_root_dir": str(tmp_path)},
    }
    trainer, _, _ = trainkit.from_config(config)
    assert isinstance(trainer.logger, WandbLogger)
