"""Training on loaders without length: who looks for the last batch changes nothing, and a stop anywhere neither."""

from __future__ import annotations

import random
import sys
import warnings
from itertools import product
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader, IterableDataset, Sampler

import trainkit
from trainkit.data import CombinedLoader
from trainkit.testing import TinyModule, assert_same_weights, quiet_trainer

pytestmark = pytest.mark.filterwarnings(
    "ignore:.*(cannot be told where to begin|in turn with training|nothing is left)"
)

SAMPLES, FEATURES = 11, 4


def row(index):
    return torch.arange(float(FEATURES)) / 4 + index


class Samples(IterableDataset):
    """Shuffles in a buffer, whose content goes with what was drawn, and adds noise; draws from ``begins_at`` on."""

    def __init__(self, draw=lambda: 0.0, begins_at=0):
        self.draw, self.begins_at = draw, begins_at

    def __iter__(self):
        buffer = []
        for index in range(SAMPLES + 3):
            drawn = self.draw() if index >= self.begins_at else 0.0
            if index < SAMPLES:
                buffer.append(row(index))
            if index >= 3:
                yield buffer.pop(int(drawn * len(buffer))) + drawn


class Loader:
    """Batches of any iterable, without length."""

    def __init__(self, batches):
        self.batches = batches

    def __iter__(self):
        return iter(self.batches)


class OwnGenerator(DataLoader):
    """A stream that draws from the generator that the loader was given."""

    def __init__(self):
        generator = torch.Generator().manual_seed(5)
        draw = lambda: torch.rand((), generator=generator).item()  # noqa: E731
        super().__init__(Samples(draw), batch_size=2, generator=generator)


class Stateful:
    """Keeps its place, and a generator of its own."""

    def __init__(self):
        self.given, self.generator = 0, torch.Generator().manual_seed(3)

    def __iter__(self):
        if self.given >= 6:
            self.given = 0
        while self.given < 6:
            self.given += 1
            yield torch.rand(2, FEATURES, generator=self.generator) + self.given

    def state_dict(self):
        return {"given": self.given, "generator": self.generator.get_state()}

    def load_state_dict(self, state):
        self.given = state["given"]
        self.generator.set_state(state["generator"])


class Unsized(Sampler):
    def __iter__(self):
        return iter(torch.randperm(SAMPLES).tolist())


def rare():
    """Draw from everything, seldom: what is drawn stays the same for some samples, and leaves numbers that wait."""
    if random.random() < 0.5:
        return 0.25
    return (abs(random.gauss(0, 1)) + abs(np.random.normal()) + torch.rand(()).item()) % 1


def drawing(draw, **options):
    return lambda: DataLoader(Samples(draw, **options), batch_size=2)


STREAMS = {
    "plain": lambda: Loader([torch.stack([row(index), row(index + 1)]) for index in range(6)]),
    "samples": drawing(lambda: 0.0),
    "torch": drawing(lambda: torch.rand(()).item()),
    "random": drawing(random.random),
    "numpy": drawing(lambda: float(np.random.rand())),
    "rare": drawing(rare),
    "later": drawing(random.random, begins_at=7),
    "generator": OwnGenerator,
    "workers": lambda: DataLoader(Samples(lambda: torch.rand(()).item() / 2), batch_size=2, num_workers=2),
    "stateful": Stateful,
    "sampler": lambda: DataLoader([row(index) for index in range(SAMPLES)], batch_size=2, sampler=Unsized()),
    "several": lambda: CombinedLoader([drawing(rare)(), Loader([row(1)[None], row(2)[None]])], "max_size_cycle"),
    "in turn": lambda: CombinedLoader([drawing(rare)(), drawing(random.random)()], "sequential"),
}


class Net(TinyModule):
    """Draws in each step from everything, and notes what it is given."""

    def __init__(self):
        super().__init__()
        self.layer = torch.nn.Linear(FEATURES, 2)
        self.seen = []

    def training_step(self, batch, batch_idx):
        batch = torch.cat(batch) if isinstance(batch, list) else batch
        self.seen.append((batch_idx, batch.tolist()))
        noise = torch.rand(batch.shape) + random.gauss(0, 1) + np.random.normal()
        return self.layer(batch + noise).square().mean()

    def validation_step(self, batch, batch_idx):
        torch.rand(1), random.random(), np.random.rand()


class Asks:
    """Asks for the last batch in the hooks of each batch, or in none."""

    def __init__(self, asks):
        self.asks, self.answers = asks, []

    def on_train_batch_start(self, trainer):
        self.ask(trainer)

    def on_train_batch_end(self, trainer):
        self.ask(trainer)

    def ask(self, trainer):
        if self.asks:
            self.answers.append(trainer.is_last_batch)


class Saves:
    stage = "persist"

    def __init__(self, folder):
        self.folder, self.stops = folder, []

    def on_train_batch_end(self, trainer, module):
        self.save(trainer, module)

    def on_train_epoch_end(self, trainer, module):
        self.save(trainer, module)

    def save(self, trainer, module):
        self.stops.append((self.folder / f"{len(self.stops)}.ckpt", len(module.seen)))
        trainer.save_checkpoint(self.stops[-1][0])


def seed(number):
    torch.manual_seed(number), random.seed(number), np.random.seed(number)


def fit(name, plugins=(), ckpt_path=None, **arguments):
    seed(1 if ckpt_path is None else 2)
    module = Net()
    trainer = quiet_trainer(max_epochs=2, num_sanity_val_steps=0, callbacks=[*plugins], **arguments)
    trainer.fit(module, STREAMS[name](), DataLoader(torch.zeros(2, FEATURES)), ckpt_path=ckpt_path)
    return module


ARGUMENTS = {
    "default": {},
    "groups": {"accumulate_grad_batches": 4},
    "limited": {"limit_train_batches": 4},
    "checked": {"val_check_interval": 2, "check_val_every_n_epoch": None},
    "steps": {"max_steps": 8},
}
CASES = [*product(STREAMS, ["default"]), *product(["rare", "plain"], list(ARGUMENTS)[1:])]


@pytest.mark.parametrize(("name", "how"), CASES)
def test_a_run_that_stops_anywhere_goes_on_whoever_asks(tmp_path, name, how):
    arguments = ARGUMENTS[how]
    asks, saves = Asks(True), Saves(tmp_path)
    whole = fit(name, [asks, saves], **arguments)
    alone = fit(name, [Asks(False)], **arguments)
    assert alone.seen == whole.seen
    assert_same_weights(alone, whole)
    assert 1 <= asks.answers.count(True) <= 4
    every = 4 if name == "workers" else 1
    for index, (path, seen) in enumerate(saves.stops[::every]):
        resumed = fit(name, [Asks(index % 2 == 0)], ckpt_path=path, **arguments)
        assert resumed.seen == whole.seen[seen:], path
        assert_same_weights(resumed, whole)


def by_hand(name):
    seed(1)
    module, loader = Net(), STREAMS[name]()
    optimizer = module.configure_optimizers()
    for _ in range(2):
        for batch_idx, batch in enumerate(loader):
            optimizer.zero_grad()
            module.training_step(batch, batch_idx).backward()
            optimizer.step()
    return module


@pytest.mark.parametrize("name", ["plain", "samples", "generator", "stateful"])
def test_what_draws_from_no_shared_generator_trains_as_by_hand(name):
    expected = by_hand(name)
    seed(1)
    module = Net()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        quiet_trainer(max_epochs=2).fit(module, STREAMS[name]())
    assert module.seen == expected.seen
    assert_same_weights(module, expected)


# What a batch costs


class Silent(Net):
    """Neither draws nor logs."""

    def training_step(self, batch, batch_idx):
        return self.layer(batch).square().mean()


class Rows(IterableDataset):
    def __init__(self, size):
        self.size = size

    def __iter__(self):
        return map(row, range(self.size))


class Counted(Loader):
    def __len__(self):
        return len(self.batches)


SIZED = {
    "counted": lambda size: Counted([row(index)[None] for index in range(size)]),
    "stream": lambda size: Loader([row(index)[None] for index in range(size)]),
    "workers": lambda size: DataLoader(Rows(size), batch_size=1, num_workers=1),
}


def calls_of(name, size, val):
    """Return how many functions of trainkit a fit of ``size`` batches calls."""
    package = str(Path(trainkit.__file__).parent)
    calls = []

    def note(frame, event, argument):
        if event == "call" and frame.f_code.co_filename.startswith(package):
            calls.append(frame.f_code.co_qualname)

    trainer, module, loader = quiet_trainer(max_epochs=1, num_sanity_val_steps=0), Silent(), SIZED[name](size)
    sys.setprofile(note)
    try:
        trainer.fit(module, loader, val)
    finally:
        sys.setprofile(None)
    return len(calls)


@pytest.mark.parametrize("validates", [False, True])
@pytest.mark.parametrize(("name", "calls"), [("stream", 13), ("workers", 0)])
def test_a_batch_of_a_stream_calls_few_functions_more(name, calls, validates):
    val = [torch.zeros(1, FEATURES)] if validates else None
    calls_of(name, 2, val)  # what is done once in a process

    def per_batch(name):
        return (calls_of(name, 40, val) - calls_of(name, 20, val)) / 20

    assert round(per_batch(name) - per_batch("counted")) <= calls
