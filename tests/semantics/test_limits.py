"""How many batches a stage takes."""

from __future__ import annotations

import warnings

import pytest
import torch
from torch.utils.data import DataLoader, IterableDataset

from trainkit.callbacks import CSVLogger, EarlyStopping, ModelCheckpoint, TensorBoardLogger
from trainkit.testing import Recorder, TinyData, TinyModule, quiet_trainer


class Stream(IterableDataset):
    """Numbers without a length; notes how many were asked for."""

    def __init__(self, size):
        self.size = size
        self.fetched = 0

    def __iter__(self):
        for value in range(self.size):
            self.fetched += 1
            yield torch.full((4,), float(value)), torch.zeros(2)


def batches_of(recorder, word):
    return recorder.count(f"on_{word}_batch_end")


@pytest.mark.parametrize(("limit", "expected"), [(1, 1), (3, 3), (99, 5), (1.0, 5), (0.5, 2), (0.79, 3), (0, 0)])
def test_int_limit_is_batches_and_float_limit_is_a_share_rounded_down(limit, expected):
    data, module = TinyData(5), TinyModule()
    recorder = Recorder()
    fit = quiet_trainer(limit_train_batches=limit, limit_val_batches=limit, callbacks=[recorder])
    fit.fit(module, data, data)
    assert batches_of(recorder, "train") == expected
    if expected:
        assert batches_of(recorder, "validation") == expected
        assert fit.num_training_batches == expected
    recorder = Recorder()
    quiet_trainer(limit_test_batches=limit, callbacks=[recorder]).test(module, data)
    assert batches_of(recorder, "test") == expected
    recorder = Recorder()
    quiet_trainer(limit_predict_batches=limit, callbacks=[recorder]).predict(module, data)
    assert batches_of(recorder, "predict") == expected


@pytest.mark.parametrize("stage", ["train", "val", "test", "predict"])
def test_share_that_gives_no_batch_is_an_error_that_names_it(stage):
    trainer = quiet_trainer(**{f"limit_{stage}_batches": 0.1})
    run = {"train": trainer.fit, "val": trainer.validate, "test": trainer.test, "predict": trainer.predict}[stage]
    with pytest.raises(ValueError, match=rf"(?s)limit_{stage}_batches.*0\.1.*5"):
        run(TinyModule(), TinyData(5))


def test_limit_applies_to_each_validation_loader():
    recorder = Recorder(only=["on_validation_batch_end"])
    samples = [(x[0], y[0]) for x, y in TinyData(4)]

    class Module(TinyModule):
        def validation_step(self, batch, batch_idx, dataloader_idx):
            pass

    trainer = quiet_trainer(limit_val_batches=0.5, callbacks=[recorder])
    trainer.validate(Module(), [DataLoader(samples, batch_size=1), DataLoader(samples, batch_size=2)])
    assert [a["dataloader_idx"] for a in recorder.arguments("on_validation_batch_end")] == [0, 0, 1]


def test_loader_without_length_knows_its_last_batch_by_looking_one_ahead():
    dataset = Stream(3)
    recorder = Recorder(
        only=["on_train_batch_start", "on_train_batch_end"],
        look=lambda trainer, module: (trainer.is_last_batch, dataset.fetched),
    )
    quiet_trainer(callbacks=[recorder]).fit(TinyModule(), DataLoader(dataset, batch_size=1))
    assert recorder.seen("on_train_batch_end") == [(False, 2), (False, 3), (True, 3)]


def test_loader_with_length_is_not_read_ahead():
    fetched = []

    class Dataset(torch.utils.data.Dataset):
        def __len__(self):
            return 3

        def __getitem__(self, index):
            fetched.append(index)
            return torch.zeros(4), torch.zeros(2)

    recorder = Recorder(only=["on_train_batch_end"], look=lambda trainer, module: len(fetched))
    quiet_trainer(callbacks=[recorder]).fit(TinyModule(), DataLoader(Dataset(), batch_size=1))
    assert recorder.seen("on_train_batch_end") == [1, 2, 3]


def test_loader_without_length_validates_at_its_end_and_takes_int_limits():
    recorder = Recorder(only=["on_train_batch_end", "on_validation_batch_end"])
    trainer = quiet_trainer(callbacks=[recorder], limit_val_batches=2)
    trainer.fit(TinyModule(), DataLoader(Stream(3), batch_size=1), DataLoader(Stream(5), batch_size=1))
    assert recorder.names == ["on_train_batch_end"] * 3 + ["on_validation_batch_end"] * 2
    limited = quiet_trainer(limit_train_batches=2)
    limited.fit(TinyModule(), DataLoader(Stream(3), batch_size=1))
    assert limited.global_step == 2


@pytest.mark.parametrize("argument", ["limit_train_batches", "val_check_interval"])
def test_share_of_a_loader_without_length_is_an_error(argument):
    with pytest.raises(ValueError, match=rf"(?s){argument}.*0\.5"):
        quiet_trainer(**{argument: 0.5}).fit(TinyModule(), DataLoader(Stream(4), batch_size=1), TinyData(1))


def test_overfit_batches_trains_the_same_batches_in_order_and_validates_on_its_own_loader():
    trained, validated = [], []

    class Module(TinyModule):
        def training_step(self, batch, batch_idx):
            trained.append(batch.tolist())
            return self.layer.weight.sum()

        def validation_step(self, batch, batch_idx):
            validated.append(batch.tolist())

    train = DataLoader(range(10), batch_size=2, shuffle=True)
    val = DataLoader(range(100, 110), batch_size=2)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # it may say that it does not shuffle
        quiet_trainer(overfit_batches=2, max_epochs=2).fit(Module(), train, val)
    assert trained == [[0, 1], [2, 3]] * 2
    assert validated == [[100, 101], [102, 103]] * 2


def test_overfit_batches_takes_a_share():
    trainer = quiet_trainer(overfit_batches=0.5)
    trainer.fit(TinyModule(), TinyData(5))
    assert trainer.global_step == 2


@pytest.mark.parametrize(
    "cadence", [{}, {"check_val_every_n_epoch": 4}, {"check_val_every_n_epoch": None, "val_check_interval": 50}]
)
@pytest.mark.parametrize(("asked", "batches"), [(True, 1), (1, 1), (3, 3)])
def test_fast_dev_run_takes_a_few_batches_of_one_epoch_and_touches_nothing_else(tmp_path, asked, batches, cadence):
    recorder = Recorder()
    callbacks = [
        recorder,
        ModelCheckpoint(dirpath=tmp_path / "saved"),
        EarlyStopping("val/loss"),
        CSVLogger(tmp_path),
        TensorBoardLogger(),
    ]
    module, data = TinyModule(), TinyData(5)
    arguments = {
        "fast_dev_run": asked,
        "accelerator": "cpu",
        "default_root_dir": tmp_path,
        "max_epochs": 7,
        "num_sanity_val_steps": 2,
        "enable_progress_bar": False,
        "enable_model_summary": False,
        **cadence,
    }
    from trainkit import Trainer

    trainer = Trainer(**arguments, callbacks=callbacks)
    trainer.fit(module, data, data)
    assert batches_of(recorder, "train") == batches_of(recorder, "validation") == batches
    assert recorder.count("on_train_epoch_start") == 1
    assert recorder.count("on_sanity_check_start") == 0
    assert list(tmp_path.rglob("*")) == []
    for stage in ("test", "predict"):
        recorder = Recorder()
        getattr(Trainer(**arguments, callbacks=[recorder]), stage)(module, data)
        assert batches_of(recorder, stage) == batches
