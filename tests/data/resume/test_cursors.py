from __future__ import annotations

import random

import pytest
import torch
from torch.utils.data import DataLoader, IterableDataset

from tests.data.resume.runs import DATA, Saves, X, shuffled, train
from trainkit.data.combined import CombinedLoader
from trainkit.testing import assert_same_weights


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
