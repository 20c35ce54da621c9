from __future__ import annotations

import multiprocessing
import random
import warnings

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, IterableDataset, Sampler, TensorDataset

from trainkit.data.combined import CombinedLoader
from trainkit.errors import CheckpointError
from trainkit.testing import TinyModule, assert_same_weights, quiet_trainer

X = torch.randn(22, 4, generator=torch.Generator().manual_seed(0))
DATA = TensorDataset(X, X[:, :2].clone())


class Dropping(TinyModule):
    """Draws random numbers in every step, and notes what it is trained on."""

    def __init__(self):
        super().__init__()
        self.dropout = nn.Dropout(0.3)
        self.seen = []

    def forward(self, x):
        return self.layer(self.dropout(x))

    def training_step(self, batch, batch_idx):
        batches = [batch] if isinstance(batch[0], torch.Tensor) else batch
        self.seen.append((self.current_epoch, batch_idx, [x.sum().item() for x, _ in batches]))
        return sum(self.loss(each) for each in batches)


class Noise(IterableDataset):
    """A stream of samples with noise."""

    def __init__(self, size):
        self.size = size

    def __iter__(self):
        for index in range(self.size):
            yield X[index] + torch.rand(()) + random.random(), X[index, :2]


class Stateful:
    """Knows its place, but not its length."""

    def __init__(self):
        self.place = 0

    def __iter__(self):
        while self.place < 5:
            self.place += 1
            yield DATA[4 * self.place - 4 : 4 * self.place]
        self.place = 0

    def state_dict(self):
        return {"place": self.place}

    def load_state_dict(self, state):
        self.place = state["place"]


class Lazy(Sampler):
    """Draws from a generator that others use too, one index at a time."""

    def __iter__(self):
        return (int(np.random.randint(22)) for _ in range(22))

    def __len__(self):
        return 22


def shuffled(size=22, **options):
    return DataLoader(TensorDataset(X[:size], X[:size, :2]), batch_size=4, shuffle=True, **options)


LOADERS = {
    "stateful, without length": Stateful,
    "one after the other": lambda: CombinedLoader([shuffled(), shuffled(10)], "sequential"),
    "streams, one after the other": lambda: CombinedLoader(
        [DataLoader(Noise(22), 4), DataLoader(Noise(10), 4)], "sequential"
    ),
    "streams side by side": lambda: CombinedLoader([DataLoader(Noise(22), 4), DataLoader(Noise(22), 4)], "min_size"),
    "streams in a cycle": lambda: CombinedLoader([DataLoader(Noise(22), 4), DataLoader(Noise(7), 4)], "max_size_cycle"),
    "workers that persist": lambda: shuffled(num_workers=1, persistent_workers=True),
    "workers that persist, own generator": lambda: shuffled(
        num_workers=1, persistent_workers=True, generator=torch.Generator().manual_seed(5)
    ),
}


class Saves:
    """Saves after every batch and every epoch."""

    stage = "persist"

    def __init__(self, folder):
        self.folder = folder
        self.files = []

    def on_train_batch_end(self, trainer):
        self.save(trainer, f"{trainer.current_epoch}-{trainer.progress.batch}.ckpt")

    def on_train_epoch_end(self, trainer):
        self.save(trainer, f"{trainer.current_epoch}-end.ckpt")

    def save(self, trainer, name):
        self.files.append(self.folder / name)
        trainer.save_checkpoint(self.files[-1])


def train(loader, *, seed, **arguments):
    torch.manual_seed(seed)
    random.seed(seed)
    np.random.seed(seed)
    module = Dropping()
    trainer = quiet_trainer(max_epochs=3, callbacks=arguments.pop("callbacks", None))
    trainer.fit(module, loader, **arguments)
    return module


@pytest.mark.filterwarnings("ignore:.*cannot be told where to begin")
@pytest.mark.parametrize("name", LOADERS)
def test_run_resumed_anywhere_equals_one_that_never_stopped(tmp_path, name):
    saves = Saves(tmp_path)
    whole = train(LOADERS[name](), seed=0, callbacks=saves)
    # Each start of worker processes takes its time.
    for file in saves.files[1:-1:5] if "workers" in name else saves.files[:-1]:
        resumed = train(LOADERS[name](), seed=1, ckpt_path=file)
        assert resumed.seen == whole.seen[len(whole.seen) - len(resumed.seen) :], file
        assert_same_weights(resumed, whole)


@pytest.mark.parametrize("num_workers", [0, 1])
def test_sampler_that_draws_while_the_epoch_runs_is_told_of_at_once(num_workers):
    with pytest.warns(UserWarning, match=r"train_dataloader: Lazy draws random numbers batch by batch") as caught:
        train(DataLoader(DATA, batch_size=4, sampler=Lazy(), num_workers=num_workers), seed=0)
    assert len([w for w in caught if w.category is UserWarning]) == 1  # Python itself may tell of the fork of a worker


@pytest.mark.parametrize(("before", "after", "is_told"), [(0, 1, True), (1, 0, True), (1, 2, False)])
def test_from_no_workers_to_some_or_back_is_told_in_the_middle_of_an_epoch(tmp_path, before, after, is_told):
    saves = Saves(tmp_path)
    train(shuffled(num_workers=before), seed=0, callbacks=saves)
    for file, in_the_middle in ((saves.files[1], True), (tmp_path / "0-end.ckpt", False)):
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            train(shuffled(num_workers=after), seed=1, ckpt_path=file)
        told = [
            f"has num_workers={after}, and the run that is to be continued had {before}" in str(w.message)
            for w in caught
            if w.category is UserWarning  # Python itself may tell of the fork
        ]
        assert told == [True] * (is_told and in_the_middle)


class Buffered(IterableDataset):
    """Shuffles in a buffer, and knows its length."""

    def __init__(self, *, own):
        self.own = own

    def __len__(self):
        return 22

    def __iter__(self):
        generator = torch.Generator().manual_seed(int(torch.randint(2**31, ()))) if self.own else None
        buffer = list(DATA)[:5]
        for sample in list(DATA)[5:]:
            yield buffer.pop(int(torch.randint(5, (), generator=generator)))
            buffer.append(sample)
        yield from buffer


@pytest.mark.filterwarnings("ignore:.*cannot be told where to begin")
def test_stream_that_draws_in_turn_with_training_is_told_of_when_it_goes_on_and_one_with_its_own_is_exact(
    tmp_path,
):
    saves = Saves(tmp_path)
    whole = train(DataLoader(Buffered(own=True), 4), seed=0, callbacks=saves)
    resumed = train(DataLoader(Buffered(own=True), 4), seed=1, ckpt_path=saves.files[2])
    assert resumed.seen == whole.seen[3:]
    with pytest.warns(UserWarning, match="train_dataloader draws random numbers .* in turn with training"):
        train(DataLoader(Buffered(own=False), 4), seed=1, ckpt_path=saves.files[2])


@pytest.mark.filterwarnings("ignore:.*Lazy draws random numbers batch by batch")
def test_indices_that_workers_were_given_ahead_come_again_or_are_refused(tmp_path):
    class Draws(Saves):
        """Draws from the generator of the sampler while indices are drawn ahead."""

        def on_train_batch_start(self, batch_idx):
            if batch_idx == 1:
                np.random.rand()

        def on_train_epoch_end(self):
            pass

    def lazy():
        return DataLoader(DATA, batch_size=4, sampler=Lazy(), num_workers=1)

    saves = Draws(tmp_path)
    whole = train(lazy(), seed=0, callbacks=saves)
    (tmp_path / "again").mkdir()
    resumed = train(lazy(), seed=1, callbacks=Draws(tmp_path / "again"), ckpt_path=tmp_path / "0-1.ckpt")
    assert resumed.seen == whole.seen[1:]
    # The fifth batch of indices was drawn after something else had drawn, of which a checkpoint knows nothing.
    with pytest.raises(CheckpointError, match="draws other samples"):
        train(lazy(), seed=1, ckpt_path=tmp_path / "0-3.ckpt")


def test_no_worker_outlives_a_fit():
    before = set(multiprocessing.active_children())
    trainer = quiet_trainer(num_sanity_val_steps=1)
    loader = shuffled(num_workers=1, persistent_workers=True)
    trainer.fit(Dropping(), loader, loader)
    assert set(multiprocessing.active_children()) == before
