"""Faults that are planted in a program's own objects are found and named; where none is, nothing is told."""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader, Dataset, Sampler

import trainkit
from trainkit.callbacks import Callback, Timer
from trainkit.testing import TinyModule, quiet_trainer
from trainkit.testing.first_divergence import first_divergence
from trainkit.testing.lost import Lost, lost_at_first, lost_for_good
from trainkit.testing.trace import Enough, RunTrace, read_stops

pytestmark = pytest.mark.slow

COUNTER = 0
"""A global that a module below counts with."""


class Samples(Dataset):
    """Pairs; a subclass changes what an input is by what it keeps."""

    def __len__(self):
        return 24

    def __getitem__(self, index):
        return self.changed(torch.arange(4.0) * index / 24, index), torch.ones(2) * index / 24

    def changed(self, x, index):
        return x


class OwnGenerator(Samples):
    def __init__(self):
        self.generator = torch.Generator().manual_seed(3)

    def changed(self, x, index):
        return x + torch.rand(4, generator=self.generator)


class Counting(Samples):
    def __init__(self):
        self.count = 0

    def changed(self, x, index):
        self.count += 1
        return x + self.count / 100


class Caching(Samples):
    def __init__(self):
        self.cache = {}

    def changed(self, x, index):
        return x + self.cache.setdefault(index, torch.rand(4))


class Jitter:
    def __init__(self):
        self.random = random.Random(1)

    def __call__(self, x):
        return x + self.random.random()


class Transforming(Samples):
    def __init__(self):
        self.transforms = [Jitter()]

    def changed(self, x, index):
        return self.transforms[0](x)


class Turning(Sampler):
    """Gives another order in each pass, by a counter of its passes."""

    def __init__(self):
        self.passes = 0

    def __len__(self):
        return 24

    def __iter__(self):
        self.passes += 1
        return iter([(index * 5 + self.passes) % 24 for index in range(24)])


class Collating:
    def __init__(self):
        self.calls = itertools.count()

    def __call__(self, samples):
        xs, ys = zip(*samples, strict=True)
        return torch.stack(xs) + next(self.calls), torch.stack(ys)


class Scaled(TinyModule):
    """Multiplies its loss with what a subclass keeps."""

    def __init__(self):
        super().__init__()
        self.keep()

    def keep(self):
        pass

    def factor(self):
        return 1.0

    def training_step(self, batch, batch_idx):
        return super().training_step(batch, batch_idx) * self.factor()


class NumpyGenerator(Scaled):
    def keep(self):
        self.rng = np.random.default_rng(0)

    def factor(self):
        return 1 + float(self.rng.random())


class PlainTensor(Scaled):
    def keep(self):
        self.running = torch.zeros(2)

    def factor(self):
        self.running = self.running / 2 + 1
        return self.running.sum()


class Cache(Scaled):
    def keep(self):
        self.cache = {}

    def factor(self):
        self.cache[self.global_step] = True
        return len(self.cache)


class OfTheClass(Scaled):
    steps = 0

    def keep(self):
        OfTheClass.steps = 0  # as in a new process

    def factor(self):
        OfTheClass.steps += 1
        return self.steps


class Global(Scaled):
    def keep(self):
        globals()["COUNTER"] = 0  # as in a new process

    def factor(self):
        globals()["COUNTER"] += 1
        return COUNTER


class Part:
    def __init__(self):
        self.calls = 0


class Nested(Scaled):
    def keep(self):
        self.parts = {"first": Part()}

    def factor(self):
        self.parts["first"].calls += 1
        return self.parts["first"].calls


class OwnRate(Scaled):
    def keep(self):
        self.warm = 0

    def on_train_batch_start(self, batch, batch_idx):
        self.warm += 1
        self.trainer.optimizers[0].param_groups[0]["lr"] = 0.01 * self.warm


class Decides(Callback):
    """Lowers the learning rate at its seventh call."""

    def __init__(self):
        self.calls = 0

    def on_train_batch_end(self, trainer):
        self.calls += 1
        if self.calls == 7:
            trainer.optimizers[0].param_groups[0]["lr"] *= 0.1


class Draws(Callback):
    def __init__(self):
        self.generator = torch.Generator().manual_seed(0)

    def on_train_batch_end(self, module):
        with torch.no_grad():
            module.layer.weight.add_(torch.rand(1, generator=self.generator))


class Remembers(Decides):
    def state_dict(self):
        return {"calls": self.calls}

    def load_state_dict(self, state):
        self.calls = state["calls"]


class Late(Decides):
    def on_train_batch_end(self, trainer):
        self.calls += 1


class MadeAnew(Scaled):
    """Keeps what it makes anew in each step."""

    def training_step(self, batch, batch_idx):
        self.newest = super().training_step(batch, batch_idx)
        return self.newest


class FlagsOnce(Scaled):
    def on_train_batch_start(self, batch, batch_idx):
        if self.global_step == 1:
            self.layer.bias.requires_grad_(False)


class Data(trainkit.DataModule):
    def __init__(self, dataset=Samples, counts=False, **options):
        super().__init__()
        self.dataset, self.options, self.counts, self.calls = dataset, options, counts, 0

    def train_dataloader(self):
        options = {name: make() for name, make in self.options.items()} or {"shuffle": True}
        return DataLoader(self.dataset(), 3, **options)

    def on_after_batch_transfer(self, batch, dataloader_idx):
        self.calls += self.counts
        return [batch[0] + self.calls, batch[1]]


def traced(folder: Path, make: Callable[[], Any], data: Callable[[], Any], ckpt_path: Path | None = None) -> Path:
    """Make a run as the command does it, in this process."""
    folder.mkdir()
    trainkit.seed_everything(1)
    made = make()
    module, callbacks = (made, []) if isinstance(made, TinyModule) else (TinyModule(), [made])
    trainer = quiet_trainer(max_epochs=3, limit_train_batches=4, callbacks=callbacks, log_every_n_steps=1)
    trainer.hooks.register(RunTrace(folder, 9, saves=ckpt_path is None))
    with pytest.raises(Enough):
        trainer.fit(module, datamodule=data(), ckpt_path=ckpt_path)
    return folder


def verified(tmp_path: Path, make: Callable[[], Any], data: Callable[[], Any]) -> tuple[list[Lost], list[Lost]]:
    """Return what was lost where a resumed run differed, and where none did."""
    whole, again = (traced(tmp_path / name, make, data) for name in ("whole", "again"))
    assert first_divergence(whole, again, from_the_start=True) is None
    guilty, idle = [], []
    for stop in read_stops(whole):
        resumed = traced(tmp_path / stop.kind, make, data, whole / stop.checkpoint)
        if first_divergence(whole, resumed, stop.events) is not None:
            guilty += lost_at_first(whole, again, resumed)
        else:
            idle += lost_for_good(whole, again, resumed)
    return guilty, idle


@pytest.mark.parametrize(
    ("make", "data", "name", "to_do"),
    [
        (NumpyGenerator, Data, "NumpyGenerator.rng", "numpy's or random's global generator, which every checkpoint"),
        (PlainTensor, Data, "PlainTensor.running", "make running a buffer: self.register_buffer('running', ...)"),
        (Cache, Data, "Cache.cache", "save cache in the module's on_save_checkpoint"),
        (OfTheClass, Data, "OfTheClass.steps (of the class)", "make steps an attribute of the module"),
        (Global, Data, f"{__name__}.COUNTER (a global)", "make COUNTER an attribute of the module"),
        (Nested, Data, "Nested.parts['first'].calls", "save calls in the module's on_save_checkpoint"),
        (OwnRate, Data, "OwnRate.warm", "save warm in the module's"),
        (Decides, Data, "Decides.calls", "give the callback state_dict and load_state_dict, with calls in them"),
        (Draws, Data, "Draws.generator", "give the callback state_dict"),
        (
            TinyModule,
            lambda: Data(OwnGenerator),
            "train_dataloader.dataset.generator",
            "let a DataModule save generator",
        ),
        (TinyModule, lambda: Data(Counting), "train_dataloader.dataset.count", "or let what is returned depend on the"),
        (TinyModule, lambda: Data(Caching), "train_dataloader.dataset.cache", "let a DataModule save cache"),
        (TinyModule, lambda: Data(Transforming), "train_dataloader.dataset.transforms[0].random", "global generator"),
        (TinyModule, lambda: Data(sampler=Turning), "train_dataloader.batch_sampler.sampler.passes", "save passes"),
        (TinyModule, lambda: Data(collate_fn=Collating), "train_dataloader.collate_fn.calls", "save calls"),
        (TinyModule, lambda: Data(counts=True), "Data.calls", "return calls from the data module's state_dict"),
    ],
)
def test_what_a_checkpoint_does_not_hold_is_named_with_what_to_do(
    tmp_path: Path, make: Any, data: Any, name: str, to_do: str
) -> None:
    guilty, _ = verified(tmp_path, make, data)
    assert {lost.name for lost in guilty} == {name}
    assert to_do in guilty[0].to_do
    assert guilty[0].was != guilty[0].now


@pytest.mark.parametrize("make", [TinyModule, Remembers, MadeAnew, FlagsOnce, lambda: Timer(verbose=False)])
def test_nothing_is_told_of_what_is_saved_or_made_anew(tmp_path: Path, make: Any) -> None:
    assert verified(tmp_path, make, Data) == ([], [])


def test_what_was_lost_is_told_also_where_nothing_depends_on_it_yet(tmp_path: Path) -> None:
    guilty, idle = verified(tmp_path, Late, Data)
    assert guilty == []
    assert {(lost.name, lost.was) for lost in idle} == {("Late.calls", "8")}


@pytest.mark.filterwarnings("ignore:nothing is left to train")
def test_a_run_that_ends_before_it_was_traced_for_long_enough_is_compared_to_its_end(tmp_path: Path) -> None:
    def trained(name: str, ckpt_path: Path | None = None) -> Path:
        folder = tmp_path / name
        folder.mkdir()
        trainer = quiet_trainer(limit_train_batches=4)
        trainer.hooks.register(RunTrace(folder, 9, saves=ckpt_path is None))
        trainkit.seed_everything(1)
        trainer.fit(TinyModule(), datamodule=Data(), ckpt_path=ckpt_path)
        return folder

    whole = trained("whole")
    stop = read_stops(whole)[-1]
    assert stop.kind == "epoch"
    assert first_divergence(whole, trained("resumed", whole / stop.checkpoint), stop.events) is None
