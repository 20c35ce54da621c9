"""The rows of a run that was stopped and went on are those of one left alone, and nobody else's are touched."""

from __future__ import annotations

import csv
import os
from collections import Counter
from pathlib import Path

import pytest
from tensorboard.backend.event_processing.event_file_loader import EventFileLoader
from torch.utils.tensorboard import SummaryWriter

from trainkit.callbacks import Callback, CSVLogger, ModelCheckpoint, TensorBoardLogger
from trainkit.testing import TinyData, TinyModule, quiet_trainer

LOGGERS = {
    "default": lambda root: [TensorBoardLogger(root), CSVLogger(root)],
    "nested": lambda root: [kind(root, name) for kind in (CSVLogger, TensorBoardLogger) for name in ("a", "a/b")],
    "no name": lambda root: [CSVLogger(root, ""), TensorBoardLogger(root, "")],
    "no version": lambda root: [CSVLogger(root, "", ""), TensorBoardLogger(root, "", "")],
}
STOPS = [("batch", 1), ("batch", 4), ("validation 0", 4), ("validation 2", 4), ("validation end", 8), ("epoch end", 5)]
CASES = [("default", *stop) for stop in STOPS] + [(kind, *STOPS[2]) for kind in LOGGERS if kind != "default"]


class Logs(TinyModule):
    def training_step(self, batch, batch_idx):
        if batch_idx % 3 == 1:
            self.log("seldom", float(self.global_step), on_step=True, on_epoch=False)
        return super().training_step(batch, batch_idx)

    def validation_step(self, batch, batch_idx):
        super().validation_step(batch, batch_idx)
        if batch_idx == 0:
            self.log("val/first", float(self.global_step), on_step=True, on_epoch=False)
        self.log("val/both", float(batch_idx), on_step=True, on_epoch=True)


class Stopped(Exception):
    pass


class Stop(Callback):
    stage = ModelCheckpoint.stage  # when the rows of that point are written

    def __init__(self, where, step):
        self.where, self.step = where, step

    def reach(self, trainer, where):
        if where == self.where and trainer.global_step >= self.step:
            # As a signal would: what is whole at this point is saved.
            trainer.save_checkpoint(os.path.join(trainer.default_root_dir, "kept", "stopped.ckpt"))
            raise Stopped

    def on_train_batch_end(self, trainer):
        self.reach(trainer, "batch")

    def on_validation_batch_end(self, trainer, batch_idx):
        self.reach(trainer, f"validation {batch_idx}")

    def on_validation_end(self, trainer):
        self.reach(trainer, "validation end")

    def on_train_epoch_end(self, trainer):
        self.reach(trainer, "epoch end")

    def on_train_start(self, trainer):
        self.reach(trainer, "start")


def fit(root, loggers, *plugins, ckpt_path=None, max_epochs=3, as_callbacks=False):
    made = loggers(root)
    checkpoint = ModelCheckpoint(root / "kept", every_n_train_steps=3, save_top_k=-1)
    trainer = quiet_trainer(
        default_root_dir=root,
        max_epochs=max_epochs,
        logger=False if as_callbacks else made,
        callbacks=[checkpoint, *plugins, *(made if as_callbacks else [])],
        enable_checkpointing=True,
        log_every_n_steps=1,
        val_check_interval=2,
    )
    try:
        trainer.fit(Logs(), TinyData(5), TinyData(3, seed=1), ckpt_path=ckpt_path)
    except Stopped:
        pass
    return trainer, made


def rows_of(logger):
    folder = Path(logger.log_dir)
    if isinstance(logger, CSVLogger):
        with open(folder / "metrics.csv", newline="") as file:
            return [
                tuple(sorted((name, value) for name, value in row.items() if value)) for row in csv.DictReader(file)
            ]
    events = [event for path in sorted(folder.glob("events*")) for event in EventFileLoader(str(path)).Load()]
    values = [(value.tag, event.step, value) for event in events for value in event.summary.value]
    return sorted((tag, step, *value.tensor.float_val) for tag, step, value in values if "_hparams_" not in tag)


def files_in(root):
    return {path: path.read_bytes() for path in Path(root).rglob("*") if path.is_file()}


OF_STARTS = {"run.json", "summary.json", "hparams.yaml"}
"""Files that each start of a run adds to."""


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """Rows of a run of three epochs that nobody stopped: first those of the table, then the events."""
    _, (events, table) = fit(tmp_path_factory.mktemp("whole"), LOGGERS["default"])
    return {CSVLogger: rows_of(table), TensorBoardLogger: rows_of(events)}


@pytest.mark.parametrize(("kind", "where", "step"), CASES)
def test_stopped_twice_and_left_alone_are_one(tmp_path, whole, kind, where, step):
    fit(tmp_path, LOGGERS[kind], Stop(where, step))
    fit(tmp_path, LOGGERS[kind], Stop("batch", step + 3), ckpt_path="last")
    _, loggers = fit(tmp_path, LOGGERS[kind], ckpt_path="last")
    assert [rows_of(logger) for logger in loggers] == [whole[type(logger)] for logger in loggers]


def test_loggers_that_come_as_callbacks_go_on_too(tmp_path, whole):
    def one(root):
        return [CSVLogger(root)]

    fit(tmp_path, one, Stop("batch", 4), as_callbacks=True)
    _, (logger,) = fit(tmp_path, one, ckpt_path="last", as_callbacks=True)
    assert (logger.version, rows_of(logger)) == (0, whole[CSVLogger])


def continued(root):
    return [TensorBoardLogger(root, version=0), CSVLogger(root, version=0)]


@pytest.fixture
def evaluated(tmp_path):
    """A run of two epochs, then a test and a validation, with files of others in its folder."""
    trainer, loggers = fit(tmp_path, continued, max_epochs=2)
    rows = [Counter(rows_of(logger)) for logger in loggers]
    trainer.test(Logs(), TinyData(2, seed=3), verbose=False)
    trainer.validate(Logs(), TinyData(2, seed=3), verbose=False)
    later = [Counter(rows_of(logger)) - before for logger, before in zip(loggers, rows, strict=True)]
    for folder in (Path(trainer.log_dir), Path(trainer.log_dir, "deeper")):
        with SummaryWriter(folder) as writer:
            writer.add_scalar("mine", 1.0, 999)
    Path(trainer.log_dir, "notes.txt").write_text("mine")
    assert all(later)
    return tmp_path, later


def test_rows_of_evaluations_and_files_of_others_stay(evaluated, whole):
    root, later = evaluated
    before = files_in(root / "trainkit_logs")
    older = str(next((root / "kept").glob("*step=3.ckpt")))
    fit(root, continued, Stop("batch", 6), ckpt_path=older)
    _, loggers = fit(root, continued, ckpt_path=older)
    for logger, evaluations in zip(loggers, later, strict=True):
        mine = Counter({("mine", 999, 1.0): 1} if isinstance(logger, TensorBoardLogger) else {})
        assert Counter(rows_of(logger)) == Counter(whole[type(logger)]) + evaluations + mine
    after = files_in(root / "trainkit_logs")
    others = [path for path in before if path.suffix not in (".csv", ".fit") and path.name not in OF_STARTS]
    assert len(others) >= 5
    assert {path: after.get(path) for path in others} == {path: before[path] for path in others}


def test_a_run_that_fails_before_its_first_step_changes_no_row(evaluated):
    root, _ = evaluated
    before = files_in(root / "trainkit_logs")
    fit(root, continued, Stop("start", 0), ckpt_path=str(next((root / "kept").glob("*step=3.ckpt"))))
    after = files_in(root / "trainkit_logs")
    assert {path for path in before if after.get(path) != before[path]} <= {
        path for path in before if path.name in OF_STARTS
    }


def test_rows_are_kept_until_the_run_has_passed_them(tmp_path, whole):
    fit(tmp_path, continued)
    _, loggers = fit(
        tmp_path, continued, Stop("batch", 7), ckpt_path=str(next((tmp_path / "kept").glob("*step=3.ckpt")))
    )
    # It was stopped at step 7 of 15, and what was behind that is still there.
    assert [sorted(rows_of(logger)) for logger in loggers] == [sorted(whole[type(logger)]) for logger in loggers]


def test_a_finished_run_that_goes_on_changes_no_file(tmp_path):
    fit(tmp_path, LOGGERS["default"])
    before = files_in(tmp_path)
    with pytest.warns(UserWarning, match="nothing is left to train"):
        fit(tmp_path, LOGGERS["default"], ckpt_path="last")
    assert files_in(tmp_path) == before
