from __future__ import annotations

import os

import pytest
import torch
from torch import nn

from trainkit.callbacks import CSVLogger, Logger, ModelCheckpoint, TensorBoardLogger
from trainkit.data import DataModule
from trainkit.errors import ConfigError, LogWriteError, MetricError
from trainkit.loggers.run_mark import NAME
from trainkit.module.hparams import HyperparametersMixin
from trainkit.testing import Recorder, TinyData, TinyModule, check_callback, quiet_trainer

SETTINGS = {"trainer/accelerator": "cpu", "trainer/max_epochs": 1, "trainer/num_sanity_val_steps": 0}
"""What `quiet_trainer` gives a Trainer, as loggers are told."""


class Kept(Logger):
    """Keeps in memory what it is told."""

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.rows = []
        self.calls = []

    def log_metrics(self, metrics, step=None):
        self.rows.append((self.step_of(step), self.row_of(metrics)))

    def log_hyperparams(self, params):
        self.calls.append(("hyperparams", dict(params)))

    def save(self):
        self.calls.append(("save", len(self.rows)))

    def finalize(self, status):
        self.calls.append(("finalize", status))


class Raises(TinyModule):
    def __init__(self, error):
        nn.Module.__init__(self)
        self.layer = nn.Linear(4, 2)
        self.lr = 0.1
        self.error = error

    def training_step(self, batch, batch_idx):
        raise self.error


def test_rows_arrive_with_their_steps(tmp_path):
    logger = Kept(tmp_path)
    quiet_trainer(logger=logger, log_every_n_steps=2, max_epochs=2).fit(TinyModule(), TinyData(3))
    assert [(step, sorted(row)) for step, row in logger.rows] == [
        (2, ["epoch", "train/loss"]),
        (4, ["epoch", "train/loss"]),
        (6, ["epoch", "train/loss"]),
    ]
    assert [row["epoch"] for _, row in logger.rows] == [0, 1, 1]


def test_a_fit_gives_hyperparameters_once_and_ends_with_success(tmp_path):
    logger = Kept(tmp_path)
    trainer = quiet_trainer(logger=logger)
    trainer.fit(TinyModule(lr=0.25), TinyData(1))
    assert logger.calls == [
        ("hyperparams", {"in_features": 4, "out_features": 2, "lr": 0.25, "seed": 0} | SETTINGS),
        ("finalize", "success"),
    ]
    trainer.validate(TinyModule(), TinyData(1))
    assert logger.calls[2:] == [("finalize", "success")]


@pytest.mark.parametrize(
    ("error", "status"),
    [(ValueError("boom"), "failed"), (SystemExit(1), "failed"), (KeyboardInterrupt(), "interrupted")],
)
def test_after_an_exception_loggers_are_closed_as_failed(tmp_path, error, status):
    logger = Kept(tmp_path)
    trainer = quiet_trainer(logger=logger)
    with pytest.raises(type(error)):
        trainer.fit(Raises(error), TinyData(1))
    assert logger.calls == [("hyperparams", SETTINGS), ("finalize", status)]
    trainer.fit(TinyModule(), TinyData(1))
    assert logger.calls[-1] == ("finalize", "success")


def test_rows_are_saved_before_a_checkpoint_that_has_seen_them(tmp_path):
    logger = Kept(tmp_path)
    trainer = quiet_trainer(logger=logger, log_every_n_steps=1)
    trainer.fit(TinyModule(), TinyData(2))
    trainer.save_checkpoint(tmp_path / "a.ckpt")
    assert ("save", 2) in logger.calls


def test_hyperparameters_that_are_not_for_loggers_stay_away(tmp_path):
    class Private(TinyModule):
        def __init__(self, lr=0.1):
            super().__init__(lr=lr)
            self.save_hyperparameters(logger=False)

    logger = Kept(tmp_path)
    quiet_trainer(logger=logger).fit(Private(), TinyData(1))
    assert logger.calls == [("hyperparams", SETTINGS), ("finalize", "success")]


class Data(DataModule, HyperparametersMixin):
    def __init__(self, batch_size, lr=0.1):
        super().__init__()
        self.save_hyperparameters()

    def train_dataloader(self):
        return TinyData(1)


def test_hyperparameters_of_the_data_join_those_of_the_module(tmp_path):
    logger = Kept(tmp_path)
    quiet_trainer(logger=logger).fit(TinyModule(lr=0.1), datamodule=Data(batch_size=3))
    own = {"lr": 0.1, "in_features": 4, "out_features": 2, "seed": 0}
    assert logger.calls[0][1] == own | {"data/batch_size": 3, "data/lr": 0.1} | SETTINGS


def test_a_hyperparameter_of_both_has_two_values(tmp_path):
    trainer = quiet_trainer(logger=CSVLogger(tmp_path), enable_checkpointing=True)
    module, data = TinyModule(lr=0.1), Data(batch_size=3, lr=0.5)
    trainer.fit(module, datamodule=data)
    saved, file = os.path.join(trainer.log_dir, "last.ckpt"), os.path.join(trainer.log_dir, "hparams.yaml")
    assert dict(TinyModule.load_from_checkpoint(saved, hparams_file=file).hparams) == dict(module.hparams)
    assert dict(Data.load_from_checkpoint(saved, hparams_file=file).hparams) == {"batch_size": 3, "lr": 0.5}


def test_settings_of_a_users_own_are_logged_and_do_not_replace_hyperparameters(tmp_path):
    trainer = quiet_trainer(logger=(logger := Kept(tmp_path)))
    trainer.settings |= {"dataset": "small", "lr": 7}
    trainer.fit(TinyModule(lr=0.25), TinyData(1))
    params = logger.calls[0][1]
    assert (params["dataset"], params["lr"]) == ("small", 0.25)


def test_tensors_become_numbers_and_names_get_the_prefix(tmp_path):
    logger = Kept(tmp_path, prefix="fold1")
    logger.log_metrics({"loss": torch.tensor(0.5), "n": 3}, 7)
    logger.log_metrics({"loss": 1.0})
    assert logger.rows == [(7, {"fold1-loss": 0.5, "fold1-n": 3}), (7, {"fold1-loss": 1.0})]


def test_save_dir_is_by_default_that_of_the_trainer(tmp_path):
    logger = Kept()
    trainer = quiet_trainer(logger=logger, default_root_dir=tmp_path)
    assert trainer.log_dir == os.path.join(tmp_path, "trainkit_logs", "version_0")
    trainer.fit(TinyModule(), TinyData(1))
    assert trainer.log_dir == os.path.join(tmp_path, "trainkit_logs", "version_0")


def test_both_default_loggers_write_into_one_folder_per_trainer(tmp_path):
    for version in (0, 1):
        trainer = quiet_trainer(logger=True, default_root_dir=tmp_path, log_every_n_steps=1)
        trainer.fit(TinyModule(), TinyData(2))
        trainer.test(TinyModule(), TinyData(1), verbose=False)
        folder = tmp_path / "trainkit_logs" / f"version_{version}"
        assert [type(logger) for logger in trainer.loggers] == [TensorBoardLogger, CSVLogger]
        assert {logger.log_dir for logger in trainer.loggers} == {trainer.log_dir} == {str(folder)}
        names = {path.name.split(".")[0] for path in folder.iterdir() if not path.name.startswith(NAME)}
        assert names - {"changes"} == {"events", "metrics", "hparams", "run", "summary"}
    assert sorted(os.listdir(tmp_path / "trainkit_logs")) == ["version_0", "version_1"]


def test_a_run_that_logs_nothing_leaves_nothing(tmp_path):
    class Silent(TinyModule):
        def validation_step(self, batch, batch_idx):
            pass

    quiet_trainer(logger=True, default_root_dir=tmp_path).validate(Silent(), TinyData(1))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("kind", [Kept, CSVLogger, TensorBoardLogger])
def test_a_folder_that_cannot_be_made_is_found_before_anything_runs(tmp_path, kind):
    (tmp_path / "taken").write_text("a file")
    recorder = Recorder(only=["setup", "on_fit_start"])
    with pytest.raises(LogWriteError, match="taken"):
        quiet_trainer(logger=kind(tmp_path / "taken"), callbacks=[recorder]).fit(TinyModule(), TinyData(1))
    assert recorder.names == ["setup"]


@pytest.mark.parametrize("kind", [CSVLogger, TensorBoardLogger])
def test_a_url_is_refused_and_no_folder_of_its_name_is_made(tmp_path, monkeypatch, kind):
    monkeypatch.chdir(tmp_path)
    trainer = quiet_trainer(logger=kind(), default_root_dir="memory://logged")
    with pytest.raises(ConfigError, match=r"this machine.*'memory://logged'.*save_dir"):
        trainer.fit(TinyModule(), TinyData(1))
    assert list(tmp_path.iterdir()) == []


def test_rows_of_other_ranks_do_not_arrive(tmp_path):
    logger = Kept(tmp_path)
    logger.writes = False
    logger.on_log({"a": 1.0}, 1)
    logger.on_save_checkpoint({})
    logger.teardown()
    assert (logger.rows, logger.calls) == ([], [])


@pytest.mark.parametrize("kind", [CSVLogger, TensorBoardLogger])
def test_other_ranks_write_nothing(tmp_path, kind):
    logger = kind(tmp_path)
    logger.writes = False
    logger.log_metrics({"a": 1.0}, 1)
    logger.log_hyperparams({"a": 1})
    if logger.experiment is not None:
        logger.experiment.add_text("a", "b")
    logger.save()
    logger.finalize("success")
    assert list(tmp_path.iterdir()) == []


def test_a_continued_run_goes_on_in_its_folder(tmp_path):
    first, second = Kept(tmp_path), Kept(tmp_path)
    os.makedirs(first.log_dir)
    second.continue_from(os.path.join(first.log_dir, "checkpoints", "last.ckpt"))
    assert second.version == first.version == 0


@pytest.mark.parametrize("kind", [Kept, CSVLogger, TensorBoardLogger])
def test_loggers_keep_what_every_callback_promises(tmp_path, kind):
    check_callback(lambda: kind(tmp_path), log_every_n_steps=1)


# Going on from a checkpoint


class Counting(Kept):
    """Notes to what it is cut back."""

    def written(self):
        return len(self.rows)

    def cut_back(self, written):
        self.calls.append(("cut_back", written))


def cuts(logger):
    return [call[1] for call in logger.calls if call[0] == "cut_back"]


@pytest.fixture
def saved(tmp_path):
    """A run that logged three rows and then saved."""
    trainer = quiet_trainer(logger=Counting(tmp_path / "runs"), log_every_n_steps=1)
    trainer.fit(TinyModule(), TinyData(3))
    path = os.path.join(trainer.log_dir, "checkpoints", "a.ckpt")
    trainer.save_checkpoint(path)
    return path


def go_on(logger, path):
    trainer = quiet_trainer(logger=logger, max_epochs=2)
    trainer.fit(TinyModule(), TinyData(3), ckpt_path=path)
    return logger


def test_a_run_that_goes_on_in_its_folder_drops_what_came_after_the_checkpoint(tmp_path, saved):
    assert cuts(go_on(Counting(tmp_path / "runs", version=0), saved)) == [3]


def test_so_it_does_where_the_folder_was_moved_with_the_checkpoint(tmp_path, saved):
    os.rename(tmp_path / "runs", tmp_path / "moved")
    assert cuts(go_on(Counting(tmp_path / "moved", version=0), saved.replace("runs", "moved"))) == [3]


def test_so_it_does_where_the_checkpoint_was_moved_elsewhere(tmp_path, saved):
    os.rename(saved, tmp_path / "a.ckpt")
    assert cuts(go_on(Counting(tmp_path / "runs", version=0), tmp_path / "a.ckpt")) == [3]


def test_a_run_in_a_folder_of_its_own_leaves_the_other_one_alone(tmp_path, saved):
    assert cuts(go_on(Counting(tmp_path / "runs"), saved)) == []


def test_a_logger_of_another_kind_is_not_meant(tmp_path, saved):
    class Other(Counting):
        pass

    assert cuts(go_on(Other(tmp_path / "runs", version=0), saved)) == []


def test_evaluating_a_checkpoint_drops_nothing(tmp_path, saved):
    logger = Counting(tmp_path / "runs", version=0)
    quiet_trainer(logger=logger).validate(TinyModule(), TinyData(1), ckpt_path=saved)
    assert cuts(logger) == []


def test_a_run_whose_checkpoints_are_elsewhere_goes_on_in_its_folder_too(tmp_path):
    def fit(max_epochs, **arguments):
        checkpoint = ModelCheckpoint(tmp_path / "elsewhere")
        logger = Counting(tmp_path / "runs")
        trainer = quiet_trainer(
            logger=logger,
            max_epochs=max_epochs,
            enable_checkpointing=True,
            callbacks=[checkpoint],
            default_root_dir=tmp_path / "runs",
        )
        trainer.fit(TinyModule(), TinyData(3), **arguments)
        return logger

    fit(1)
    resumed = fit(2, ckpt_path="last")
    assert resumed.version == 0
    assert cuts(resumed) == [0]


@pytest.mark.parametrize("kind", [CSVLogger, TensorBoardLogger])
def test_two_loggers_that_would_write_over_each_other_are_refused(tmp_path, kind):
    with pytest.raises(ConfigError, match=rf"two {kind.__name__}s would write into .*version_0.*name, version"):
        quiet_trainer(logger=[kind(tmp_path), kind(tmp_path)]).fit(TinyModule(), TinyData(1))
    quiet_trainer(logger=[kind(tmp_path, version="a"), kind(tmp_path, version="b")]).fit(TinyModule(), TinyData(1))


@pytest.mark.parametrize("kind", [CSVLogger, TensorBoardLogger])
def test_so_are_a_logger_and_one_of_a_subclass_or_among_the_callbacks(tmp_path, kind):
    class Own(kind):
        pass

    for loggers, callbacks in (([kind(tmp_path), Own(tmp_path)], []), ([kind(tmp_path)], [Own(tmp_path)])):
        with pytest.raises(ConfigError, match="s would write into"):
            quiet_trainer(logger=loggers, callbacks=callbacks).fit(TinyModule(), TinyData(1))


class Full(Kept):
    def log_metrics(self, metrics, step=None):
        super().log_metrics(metrics, step)
        raise LogWriteError("could not write rows.")

    def finalize(self, status):
        super().finalize(status)
        raise LogWriteError("could not close.")


def test_rows_that_cannot_be_written_are_told_once_in_a_run_and_raise_outside(tmp_path):
    logger = Full(tmp_path)
    for _ in range(2):
        trainer = quiet_trainer(logger=logger, log_every_n_steps=1)
        with pytest.warns(UserWarning, match=r"Full: could not write rows\. The run goes on") as told:
            trainer.fit(TinyModule(), TinyData(3))
        assert len(told) == 1
    assert len(logger.rows) == 6
    with pytest.raises(LogWriteError), logger.heard():
        logger.log_metrics({"a": 1.0})


def test_rows_are_of_training_until_a_run_has_ended_and_not_in_an_evaluation(tmp_path):
    class Seen(Kept):
        def log_metrics(self, metrics, step=None):
            self.calls.append(self.trains)

    logger = Seen(tmp_path)
    trainer = quiet_trainer(logger=logger, log_every_n_steps=1)
    assert logger.trains
    trainer.fit(TinyModule(), TinyData(1))
    trainer.test(TinyModule(), TinyData(1), verbose=False)
    assert [call for call in logger.calls if isinstance(call, bool)] == [True, False]
    assert not logger.trains


def test_loggers_of_two_kinds_share_a_folder(tmp_path):
    trainer = quiet_trainer(logger=[CSVLogger(tmp_path), TensorBoardLogger(tmp_path), Kept(tmp_path), Kept(tmp_path)])
    trainer.fit(TinyModule(), TinyData(1))
    assert {logger.log_dir for logger in trainer.loggers} == {os.path.join(tmp_path, "trainkit_logs", "version_0")}


@pytest.mark.parametrize("kind", [CSVLogger, TensorBoardLogger])
def test_a_name_that_no_file_can_hold_is_named(kind, tmp_path):
    logger = kind(tmp_path)
    with pytest.raises(MetricError, match=r"no file can hold the name 'half \\ud800'"):
        logger.log_metrics({"half \ud800": 1.0}, step=0)
    logger.log_hyperparams({"half \ud800": "\udfff", "zero": "\0"})  # of these, files hold a text that stands for it
    logger.finalize("success")


@pytest.mark.parametrize("argument", ["save_dir", "name", "version", "prefix"])
def test_so_is_an_argument(argument):
    for text in ("half \ud800", "zero \0"):
        with pytest.raises(ConfigError, match=argument):
            CSVLogger(**{argument: text})
