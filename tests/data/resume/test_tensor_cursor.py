from __future__ import annotations

import random
import warnings

import numpy as np
import pytest
import torch
from torch.utils.data import Sampler

from tests.data.resume.test_cursors import Saves, X, shuffled, train
from trainkit.data import CombinedLoader, TensorLoader
from trainkit.errors import CheckpointError
from trainkit.testing import assert_same_weights

Y = X[:, :2].clone()


def tensors(size=22, **options):
    return TensorLoader(X[:size], Y[:size], **({"batch_size": 4, "shuffle": True} | options))


class Drawing(Sampler):
    """Draws from numpy's generator."""

    def __iter__(self):
        return iter(np.random.permutation(22).tolist())

    def __len__(self):
        return 22


class Private(Sampler):
    """Draws from a generator that no checkpoint knows."""

    def __init__(self, seed):
        self.random = random.Random(seed)

    def __iter__(self):
        return iter(self.random.sample(range(22), 22))

    def __len__(self):
        return 22


LOADERS = {
    "shuffled": tensors,
    "in order": lambda: tensors(shuffle=False),
    "own generator": lambda: tensors(generator=torch.Generator().manual_seed(5)),
    "own sampler": lambda: tensors(shuffle=False, sampler=Drawing()),
    "side by side": lambda: CombinedLoader([tensors(), shuffled(), tensors(10)], "max_size_cycle"),
    "one after the other": lambda: CombinedLoader([tensors(), tensors(10)], "sequential"),
}


@pytest.mark.parametrize("name", LOADERS)
def test_run_resumed_anywhere_equals_one_that_never_stopped(tmp_path, name):
    saves = Saves(tmp_path)
    whole = train(LOADERS[name](), seed=0, callbacks=saves)
    for file in saves.files[:-1]:
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # nothing is loaded and thrown away
            resumed = train(LOADERS[name](), seed=1, ckpt_path=file)
        assert resumed.seen == whole.seen[len(whole.seen) - len(resumed.seen) :], file
        assert_same_weights(resumed, whole)


def test_a_run_sees_the_batches_and_draws_the_masks_that_a_data_loader_would_give():
    ours, torchs = train(tensors(), seed=0), train(shuffled(), seed=0)
    assert ours.seen == torchs.seen
    assert_same_weights(ours, torchs)


@pytest.mark.parametrize(
    ("other", "message"),
    [
        (lambda: tensors(size=21), "samples=21.*had 22"),
        (lambda: tensors(batch_size=3), "batch_size=3.*had 4"),
        (lambda: shuffled(), "kept in another way"),
        (lambda: tensors(shuffle=False), "draws other samples"),
    ],
    ids=["fewer samples", "other batch size", "other kind", "other order"],
)
def test_another_loader_is_refused_in_mid_epoch(tmp_path, other, message):
    train(tensors(), seed=0, callbacks=Saves(tmp_path))
    with pytest.raises(CheckpointError, match=f"(?s){message}"):
        train(other(), seed=0, ckpt_path=tmp_path / "1-2.ckpt")


def test_an_order_that_cannot_be_drawn_again_is_refused(tmp_path):
    train(tensors(shuffle=False, sampler=Private(0)), seed=0, callbacks=Saves(tmp_path))
    with pytest.raises(CheckpointError, match="draws other samples"):
        train(tensors(shuffle=False, sampler=Private(1)), seed=0, ckpt_path=tmp_path / "0-2.ckpt")
