"""Drawn loaders of every kind against a plain ``for`` loop: each sample comes once, and weighs as much as any other."""

from __future__ import annotations

import random
import warnings
from collections import Counter

import pytest
import torch
from torch.utils.data import (
    BatchSampler,
    DataLoader,
    IterableDataset,
    RandomSampler,
    SequentialSampler,
    SubsetRandomSampler,
)

from trainkit.data import TensorLoader
from trainkit.testing import TinyModule, quiet_trainer


class Samples(torch.utils.data.Dataset):
    """Samples that hold their index, of one shape or each of another."""

    def __init__(self, shapes):
        self.shapes = shapes

    def __len__(self):
        return len(self.shapes)

    def __getitem__(self, index):
        return torch.full(self.shapes[index], float(index))


class Stream(IterableDataset):
    """The same samples, without length."""

    def __init__(self, samples):
        self.samples = samples

    def __iter__(self):
        return (self.samples[index] for index in range(len(self.samples)))


class Plain:
    """A loader that is no ``DataLoader``: any iterable of batches."""

    def __init__(self, loader):
        self.loader = loader

    def __iter__(self):
        return iter(self.loader)


class Sized(Plain):
    def __len__(self):
        return len(self.loader)


def draw(rng):
    """Return a loader, how many samples it has, and whether it gives lists of one tensor."""
    count, rank = rng.randint(1, 9), rng.randint(0, 3)
    # What a list of single numbers weighs is not known, which is told.
    is_ragged = rank > 0 and rng.random() < 0.5
    shape = tuple(rng.randint(1, 4) for _ in range(rank))
    shapes = [tuple(rng.randint(1, 4) for _ in shape) if is_ragged else shape for _ in range(count)]
    samples, batch_size = Samples(shapes), rng.randint(1, 5)
    collate = {"collate_fn": list} if is_ragged or (rank and rng.random() < 0.2) else {}
    sampler = rng.choice((SequentialSampler, RandomSampler, lambda data: SubsetRandomSampler(range(len(data)))))(
        samples
    )
    loader = {
        "shuffled": lambda: DataLoader(samples, batch_size, shuffle=True, **collate),
        "sampler": lambda: DataLoader(samples, batch_size, sampler=sampler, **collate),
        "batch sampler": lambda: DataLoader(
            samples, batch_sampler=BatchSampler(sampler, batch_size, drop_last=False), **collate
        ),
        "lists": lambda: DataLoader(samples, batch_sampler=[[index] for index in range(1, count)] + [[0]], **collate),
        # A list from a stream is known for one where no batch can be short.
        "stream": lambda: DataLoader(Stream(samples), 1 if collate else batch_size, **collate),
        "tensors": lambda: TensorLoader(torch.arange(float(count)), batch_size=batch_size, shuffle=True),
    }[rng.choice(("shuffled", "sampler", "batch sampler", "lists", "stream", "tensors"))]()
    # From a loader that is not torch's, a list with one tensor may be one sample, or a batch of several in one tensor.
    wrap = (lambda own: own) if collate else rng.choice((lambda own: own, Plain, Sized))
    return wrap(loader), count, isinstance(loader, TensorLoader)


class Counts(TinyModule):
    def __init__(self, *unpacks):
        super().__init__()
        self.unpacks = dict(zip(("train", "val"), unpacks, strict=True))
        self.seen = {"train": Counter(), "val": Counter()}

    def see(self, stage, batch):
        if self.unpacks[stage]:
            (batch,) = batch
        indices = torch.stack([sample.flatten()[0] for sample in batch])
        self.seen[stage].update(indices.int().tolist())
        self.log(stage, indices.mean(), on_step=False, on_epoch=True)

    def training_step(self, batch, batch_idx):
        self.see("train", batch)
        return self.layer.weight.sum()

    def validation_step(self, batch, batch_idx):
        self.see("val", batch)


@pytest.mark.parametrize("seed", range(50))
def test_each_sample_comes_once_and_weighs_the_same(seed):
    rng = random.Random(seed)
    (train, train_count, train_unpacks), (val, val_count, val_unpacks) = draw(rng), draw(rng)
    epochs, module = rng.randint(1, 2), Counts(train_unpacks, val_unpacks)
    trainer = quiet_trainer(
        max_epochs=epochs, num_sanity_val_steps=0, accumulate_grad_batches=rng.randint(1, 3),
    )  # fmt: skip
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".*cannot go on|.*stands above|.*accumulate")
        trainer.fit(module, train, val)
    for stage, count in (("train", train_count), ("val", val_count)):
        assert module.seen[stage] == Counter(dict.fromkeys(range(count), epochs))
        assert trainer.callback_metrics[stage].item() == pytest.approx((count - 1) / 2)
