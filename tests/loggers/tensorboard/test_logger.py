from __future__ import annotations

import builtins
import errno
import os
import subprocess
import sys

import pytest
import yaml
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.hparams import api_pb2, metadata

from trainkit.callbacks import TensorBoardLogger
from trainkit.errors import ConfigError, LogWriteError
from trainkit.testing import TinyData, TinyModule, quiet_trainer


def read(folder):
    return EventAccumulator(str(folder)).Reload()


def curve(folder, name):
    return [(event.step, pytest.approx(event.value)) for event in read(folder).Scalars(name)]


@pytest.fixture
def logger(tmp_path):
    return TensorBoardLogger(tmp_path)


def test_rows_become_curves(logger):
    logger.log_metrics({"a": 0.5, "b": 1}, 1)
    logger.log_metrics({"a": float("nan")}, 2)
    logger.finalize("success")
    assert curve(logger.log_dir, "b") == [(1, 1.0)]
    first, second = read(logger.log_dir).Scalars("a")
    assert (first.step, first.value, second.step) == (1, 0.5, 2)
    assert second.value != second.value


def test_rows_can_be_read_after_save(logger):
    logger.log_metrics({"a": 0.5}, 1)
    logger.save()
    assert curve(logger.log_dir, "a") == [(1, 0.5)]
    logger.finalize("success")


def test_a_fit_leaves_its_curves(tmp_path):
    logger = TensorBoardLogger(tmp_path)
    trainer = quiet_trainer(logger=logger, max_epochs=2, log_every_n_steps=1)
    trainer.fit(TinyModule(), TinyData(2), TinyData(2, seed=1))
    assert [step for step, _ in curve(logger.log_dir, "train/loss")] == [1, 2, 3, 4]
    assert curve(logger.log_dir, "epoch")[-1] == (4, 1)
    assert curve(logger.log_dir, "val/loss")[-1] == (4, trainer.callback_metrics["val/loss"].item())


def test_what_is_logged_after_the_end_of_a_run_continues_its_curves(tmp_path):
    logger = TensorBoardLogger(tmp_path)
    trainer = quiet_trainer(logger=logger, log_every_n_steps=1)
    trainer.fit(TinyModule(), TinyData(2))
    trainer.test(TinyModule(), TinyData(1), verbose=False)
    assert [step for step, _ in curve(logger.log_dir, "test/loss")] == [2]
    assert [step for step, _ in curve(logger.log_dir, "train/loss")] == [1, 2]


def hparams_record(folder, tag, parse):
    return parse(read(folder).SummaryMetadata(tag).plugin_data.content)


def test_hyperparameters_are_on_the_page_of_hyperparameters_and_in_a_file(tmp_path):
    logger = TensorBoardLogger(tmp_path)
    quiet_trainer(logger=logger).fit(TinyModule(lr=0.25), TinyData(1))
    start = hparams_record(
        logger.log_dir, metadata.SESSION_START_INFO_TAG, metadata.parse_session_start_info_plugin_data
    )
    assert {name: value.number_value for name, value in start.hparams.items()} == {
        "in_features": 4,
        "out_features": 2,
        "lr": 0.25,
        "seed": 0,
        "trainer/max_epochs": 1,
        "trainer/num_sanity_val_steps": 0,
        "trainer/accelerator": 0,  # a text
    }
    assert start.hparams["trainer/accelerator"].string_value == "cpu"
    with open(os.path.join(logger.log_dir, "hparams.yaml"), encoding="utf-8") as file:
        assert yaml.safe_load(file)["lr"] == 0.25


@pytest.mark.parametrize(
    ("status", "expected"),
    [
        ("success", api_pb2.STATUS_SUCCESS),
        ("failed", api_pb2.STATUS_FAILURE),
        ("interrupted", api_pb2.STATUS_FAILURE),
    ],
)
def test_the_page_of_hyperparameters_knows_how_the_run_ended(logger, status, expected):
    logger.log_hyperparams({"a": 1})
    logger.finalize(status)
    end = hparams_record(logger.log_dir, metadata.SESSION_END_INFO_TAG, metadata.parse_session_end_info_plugin_data)
    assert end.status == expected


def test_hyperparameters_may_bring_metrics(logger):
    logger.log_hyperparams({"a": 1}, {"best": 0.5})
    logger.finalize("success")
    assert curve(logger.log_dir, "best") == [(0, 0.5)]


def test_curves_follow_the_experiment_into_its_file_so_that_a_live_reader_goes_on(logger):
    logger.log_metrics({"a": 1.0}, 1)
    logger.save()
    live = read(logger.log_dir)
    logger.experiment.add_text("note", "hello", 1)
    assert logger.experiment is logger.experiment
    logger.log_metrics({"a": 2.0}, 2)
    logger.save()
    assert [event.step for event in live.Reload().Scalars("a")] == [1, 2]
    logger.log_metrics({"a": 3.0}, 3)
    logger.finalize("success")
    assert [event.step for event in live.Reload().Scalars("a")] == [1, 2, 3]
    assert "note/text_summary" in live.Tags()["tensors"]


def test_after_finalize_there_is_a_new_experiment(logger):
    logger.experiment.add_scalar("a", 1.0, 1)
    logger.finalize("success")
    logger.experiment.add_scalar("a", 2.0, 2)
    logger.finalize("success")
    assert curve(logger.log_dir, "a") == [(1, 1.0), (2, 2.0)]


def test_a_full_disk_names_the_folder(logger, monkeypatch):
    def full(*args, **kwargs):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(builtins, "open", full)
    with pytest.raises(LogWriteError, match=f"{logger.log_dir}: No space left"):
        logger.log_metrics({"a": 1.0}, 1)


@pytest.mark.parametrize("flush_secs", [-1.0, float("nan")])
def test_a_time_that_cannot_be_is_refused(flush_secs):
    with pytest.raises(ConfigError, match="flush_secs"):
        TensorBoardLogger("logs", flush_secs=flush_secs)


def test_curves_need_neither_summary_writer_nor_tensorflow(tmp_path):
    code = (
        "import sys; from trainkit.callbacks import TensorBoardLogger; logger = TensorBoardLogger(sys.argv[1]);"
        "assert 'tensorboard' not in sys.modules; logger.log_metrics({'a': 1.0}, 1); logger.finalize('success');"
        "assert 'torch.utils.tensorboard' not in sys.modules and 'tensorflow' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=True)
    assert curve(tmp_path / "trainkit_logs" / "version_0", "a") == [(1, 1.0)]


@pytest.mark.parametrize("by_writer", [False, True])
def test_a_file_that_is_being_written_is_not_cut(tmp_path, by_writer):
    before = TensorBoardLogger(tmp_path, version=0)
    before.log_metrics({"a": 1.0}, 1)
    written = before.written()
    before.log_metrics({"a": 2.0}, 2)
    before.finalize("success")
    now = TensorBoardLogger(tmp_path, version=0)
    if by_writer:
        now.experiment.add_scalar("b", 3.0, 0)
    else:
        now.log_metrics({"b": 3.0}, 0)
    now.cut_back(written)
    now.log_metrics({"a": 4.0}, 2)
    now.finalize("success")
    assert curve(now.log_dir, "a") == [(1, 1.0), (2, 4.0)]
    assert curve(now.log_dir, "b") == [(0, 3.0)]
