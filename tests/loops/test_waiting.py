"""A loop that waits for a batch is left there, although the batch never comes."""

from __future__ import annotations

import importlib
import os
import signal
import sys
import threading
import time

import pytest
import torch
from torch.utils.data import DataLoader, Dataset, IterableDataset

from trainkit import Trainer, TrainModule
from trainkit.callbacks import ModelCheckpoint
from trainkit.data import workers
from trainkit.loops import stop, waiting
from trainkit.loops.waiting import Place, place_of
from trainkit.testing import assert_same_weights, quiet_trainer

pytestmark = pytest.mark.skipif(os.name != "posix", reason="no signals between processes")


class Map(Dataset):
    """Hangs at the sample ``hangs_at`` of an order, and tells the process that trains to stop once it does."""

    def __init__(self, hangs_at=None):
        self.hangs_at, self.trains = hangs_at, os.getpid()

    def __len__(self):
        return 12

    def __getitem__(self, index):
        if index == self.hangs_at:
            hang(self.trains)
        return torch.tensor([float(index), torch.rand(()).item()])


class Stream(IterableDataset):
    def __init__(self, hangs_at=None):
        self.map = Map(hangs_at)

    def __iter__(self):
        return (self.map[index] for index in range(12))


def hang(pid):
    # Behind a delay, so that the process that trains has come to wait for this batch.
    threading.Timer(0.5, os.kill, (pid, signal.SIGTERM)).start()
    while True:
        time.sleep(60)


class Noisy(TrainModule):
    def __init__(self):
        super().__init__()
        self.layer = torch.nn.Linear(2, 1)

    def training_step(self, batch, batch_idx):
        return self.layer(torch.nn.functional.dropout(batch)).mean()

    def validation_step(self, batch, batch_idx):
        self.log("val", batch.mean())

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), 0.01)


def loader(data, num_workers):
    return DataLoader(data, batch_size=2, num_workers=num_workers)


def fit(folder, train, val, ckpt_path=None, profiler=None):
    torch.manual_seed(1 if ckpt_path is None else 2)
    trainer = Trainer(
        accelerator="cpu",
        max_epochs=2,
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        callbacks=[ModelCheckpoint(folder, save_top_k=0)],
        default_root_dir=folder,
        profiler=profiler,
    )
    trainer.fit(Noisy(), train, val, ckpt_path=ckpt_path)
    return trainer


@pytest.fixture(autouse=True)
def impatient(monkeypatch):
    monkeypatch.setattr(workers, "PATIENCE_S", 0.1)


@pytest.mark.parametrize("phase", ["training", "validation"])
@pytest.mark.parametrize("kind", [Map, Stream])
@pytest.mark.filterwarnings("ignore:.*cannot be told where to begin:UserWarning")
def test_a_worker_that_hangs_does_not_hold_up_the_run_which_continues_exactly(tmp_path, kind, phase):
    hanging, whole = loader(kind(hangs_at=7), 1), loader(kind(), 1)
    data = {"training": (hanging, whole), "validation": (whole, hanging)}[phase]
    expected = fit(tmp_path / "whole", whole, whole)
    with pytest.raises(SystemExit) as raised:
        fit(tmp_path, *data)
    assert raised.value.code == 143
    resumed = fit(tmp_path, whole, whole, ckpt_path=tmp_path / "checkpoints/last.ckpt")
    assert_same_weights(resumed.module, expected.module)
    assert resumed.callback_metrics == expected.callback_metrics


@pytest.mark.parametrize("kind", [Map, Stream])
@pytest.mark.filterwarnings("ignore:.*cannot be told where to begin:UserWarning")
def test_a_step_that_is_measured_is_left_as_exactly(tmp_path, kind):
    hanging, whole = loader(kind(hangs_at=7), 1), loader(kind(), 1)
    expected = fit(tmp_path / "whole", whole, whole)
    with pytest.raises(SystemExit):
        fit(tmp_path, hanging, whole, profiler="simple")
    resumed = fit(tmp_path, whole, whole, ckpt_path=tmp_path / "checkpoints/last.ckpt", profiler="simple")
    assert_same_weights(resumed.module, expected.module)


@pytest.mark.parametrize(("kind", "hangs_at", "num_workers"), [(Map, 7, 0), (Stream, 7, 0), (Map, 0, 1)])
@pytest.mark.filterwarnings("ignore:.*cannot be told where to begin:UserWarning")
@pytest.mark.filterwarnings("ignore:.*draws random numbers from the global generators:UserWarning")
def test_a_batch_that_cannot_be_given_up_exactly_is_given_up_after_a_while(
    tmp_path, monkeypatch, capsys, kind, hangs_at, num_workers
):
    monkeypatch.setattr(stop, "PATIENCE_S", 0.2)
    with pytest.raises(SystemExit):
        fit(tmp_path, loader(kind(hangs_at), num_workers), None)
    assert "may not continue bit for bit" in capsys.readouterr().err
    resumed = fit(tmp_path, loader(kind(), num_workers), None, ckpt_path=tmp_path / "checkpoints/last.ckpt")
    assert resumed.global_step == 12


@pytest.mark.parametrize("method", ["validate", "predict"])
def test_an_evaluation_is_left_too(method, tmp_path):
    trainer = Trainer(accelerator="cpu", logger=False, enable_progress_bar=False, default_root_dir=tmp_path)
    with pytest.raises(SystemExit):
        getattr(trainer, method)(Noisy(), loader(Map(hangs_at=0), 1))


def test_nothing_is_left_within_a_step_however_long_it_takes(tmp_path, monkeypatch):
    monkeypatch.setattr(stop, "PATIENCE_S", 0.01)
    steps = []

    class Slow(Noisy):
        def training_step(self, batch, batch_idx):
            os.kill(os.getpid(), signal.SIGTERM)
            # Another loop over data within the step: the run has to be left alone in it.
            list(loader(Map(), 0))
            threading.Event().wait(0.2)
            steps.append(batch_idx)
            return super().training_step(batch, batch_idx)

    with pytest.raises(SystemExit):
        quiet_trainer(default_root_dir=tmp_path).fit(Slow(), loader(Map(), 0))
    assert steps == [0]


class Dying(Map):
    def __getitem__(self, index):
        os.kill(self.trains, signal.SIGTERM)
        os.kill(os.getpid(), signal.SIGTERM)


def test_workers_that_die_of_the_signal_are_taken_for_it(tmp_path, monkeypatch):
    monkeypatch.setattr(workers, "_PROCESSES", {})
    with pytest.raises(SystemExit) as raised:
        fit(tmp_path, loader(Dying(), 1), None)
    assert raised.value.code == 143
    assert "DataLoader worker" in str(raised.value.__cause__)
    assert (tmp_path / "checkpoints/last.ckpt").exists()


def test_another_error_after_a_signal_stays_what_it_is(tmp_path):
    class Failing(Map):
        def __getitem__(self, index):
            os.kill(self.trains, signal.SIGTERM)
            raise RuntimeError("of the data")

    with pytest.raises(RuntimeError, match="of the data"):
        fit(tmp_path, loader(Failing(), 0), None)


def test_outside_of_a_loop_there_is_nothing_to_leave():
    assert place_of(sys._getframe()) is Place.ELSEWHERE
    assert place_of(None) is Place.ELSEWHERE


@pytest.mark.parametrize("name", sorted({*waiting.LOOPS, waiting.IDLE, *waiting.WAYS_TO_IDLE, *waiting.BEGINNINGS}))
def test_the_functions_are_still_called_so(name):
    parts = name.split(".")
    # A class begins with a capital, behind the underscore that may come first.
    depth = next((i for i, part in enumerate(parts) if part.lstrip("_")[:1].isupper()), len(parts) - 1)
    found = importlib.import_module(".".join(parts[:depth]))
    for part in parts[depth:]:
        found = getattr(found, part)
    assert f"{found.__module__}.{found.__code__.co_qualname}" == name
