from __future__ import annotations

import os
import re
import time
import warnings

import pytest
import torch
from torch.utils.data import DataLoader, Dataset, IterableDataset, TensorDataset

from trainkit.data import CombinedLoader, TensorLoader
from trainkit.data.sampler import shard
from trainkit.data.wait_meter import MEASURED, SKIPPED, WaitMeter, advise
from trainkit.testing import TinyModule, quiet_trainer

ENOUGH = 1 + SKIPPED + MEASURED
X = torch.zeros(12, 4)
DATASET = TensorDataset(X, X[:, :2].clone())


class Clock:
    """Stands still unless it is moved."""

    def __init__(self):
        self.now_s = 100.0

    def __call__(self):
        return self.now_s


class Slow:
    """A loader whose batches take their time, by a clock; it has no other state."""

    def __init__(self, clock, wait_s, batches=ENOUGH, first_s=0.0):
        self.clock = clock
        self.waits_s = [wait_s + first_s * (index <= SKIPPED) for index in range(batches)]

    def __iter__(self):
        for index, wait_s in enumerate(self.waits_s):
            self.clock.now_s += wait_s
            yield index


def consume(meter, clock, loader, step_s, passes=1):
    """Work on every batch for some time; return what came."""
    came = []
    for _ in range(passes):
        for batch in meter.measure(loader, loader):
            clock.now_s += step_s
            came.append(batch)
        clock.now_s += 1000.0  # a validation, between two passes
    return came


def warned(wait_s, step_s, **options):
    clock = Clock()
    passes = options.pop("passes", 1)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        consume(WaitMeter("train_dataloader", clock=clock), clock, Slow(clock, wait_s, **options), step_s, passes)
    return [str(warning.message) for warning in caught]


def test_a_loop_that_waits_is_told_how_long_and_what_to_do():
    (message,) = warned(0.006, 0.002)
    assert re.match(r"training waits for train_dataloader 75% of its time: for 6 of 8 ms per batch\.\n", message)
    assert re.search(r"to do +the Slow loads in the process that trains.*num_workers=\d+", message)


@pytest.mark.parametrize(
    "figures",
    [
        {"wait_s": 0.0019, "step_s": 0.0081},
        {"wait_s": 0.0, "step_s": 0.01, "first_s": 1.0},
        {"wait_s": 0.0009, "step_s": 0.0001},
        {"wait_s": 0.006, "step_s": 0.002, "batches": ENOUGH - 1},
    ],
    ids=["hardly waits", "waits at the start only", "too short to hand over", "too few batches"],
)
def test_nothing_is_said_of_a_loop_that(figures):
    assert warned(**figures) == []


def test_short_epochs_are_measured_together_and_what_is_between_them_is_not():
    (message,) = warned(0.006, 0.002, batches=50, passes=4)
    assert "75% of its time" in message


def test_batches_come_as_without_a_meter_and_later_passes_are_left_alone():
    clock = Clock()
    meter, loader = WaitMeter("train_dataloader", clock=clock), Slow(clock, 0.0, batches=ENOUGH + 5)
    assert consume(meter, clock, loader, 0.01) == list(range(ENOUGH + 5))
    assert meter.measure(loader, loader) is loader


# Advice


class Images(Dataset):
    def __len__(self):
        return 3


CORES = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()


class Stream(IterableDataset):
    def __iter__(self):
        return iter(())


@pytest.mark.parametrize(
    ("loader", "advice"),
    [
        (DataLoader(DATASET, 3, shuffle=True), r"TensorLoader\(\*dataset.tensors, batch_size=3, shuffle=True\)"),
        (shard(DataLoader(DATASET, 3, shuffle=True), 0, 2, training=True), r"batch_size=3, shuffle=True\)"),
        (DataLoader(DATASET, 3), r"TensorLoader\(\*dataset.tensors, batch_size=3\)"),
        (DataLoader(DATASET, 3, num_workers=2), r"TensorLoader"),
        (DataLoader(DATASET, 3, collate_fn=list), r"DataLoader\(num_workers=\d+, persistent_workers=True"),
        (DataLoader(Images()), r"DataLoader\(num_workers=\d+, persistent_workers=True"),
        (DataLoader(Images(), num_workers=CORES), "^persistent_workers=True.*\n.*do less per sample"),
        (DataLoader(Images(), num_workers=CORES, persistent_workers=True), "^do less per sample"),
        (TensorLoader(X), "put the tensors on the device"),
        (Stream(), "Stream loads in the process that trains"),
        (CombinedLoader([DataLoader(DATASET, 3), DataLoader(Images())]), "(?s)TensorLoader.*num_workers"),
    ],
)
def test_advice_fits_the_loader(loader, advice):
    assert re.search(advice, "\n".join(advise(loader, 0.01)))
    assert "pin_memory" not in "\n".join(advise(loader, 0.01, pins=False))


def test_a_tensor_dataset_gains_however_short_the_wait_is():
    assert advise(DataLoader(DATASET), 1e-5) and not advise(DataLoader(Images()), 1e-5)


# In a fit


@pytest.fixture
def clock(monkeypatch):
    """The clock that a fit looks at, which only the loaders here move."""
    clock = Clock()
    monkeypatch.setattr(time, "perf_counter", clock)
    return clock


class SlowRows(TensorDataset):
    """Takes a millisecond per sample."""

    def __init__(self, clock):
        super().__init__(*DATASET.tensors)
        self.clock = clock

    def __getitem__(self, index):
        self.clock.now_s += 0.001
        return super().__getitem__(index)


def test_a_fit_that_waits_says_so_once(clock):
    loader = DataLoader(SlowRows(clock), batch_size=2)
    with pytest.warns(UserWarning, match="waits for train_dataloader 100% of its time: for 2 of 2 ms") as caught:
        quiet_trainer(max_epochs=60, reload_dataloaders_every_n_epochs=7).fit(TinyModule(), loader)
    assert len(caught) == 1


def test_a_barebones_fit_measures_nothing(clock):
    trainer = quiet_trainer(max_epochs=30, barebones=True, logger=None)
    trainer.fit(TinyModule(), DataLoader(SlowRows(clock), batch_size=2))
    assert trainer.global_step > ENOUGH
