"""What a batch weighs in a mean, and how it is split, is the number of its samples, as in a plain ``for`` loop."""

from __future__ import annotations

import warnings

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils.data import DataLoader, Dataset

from trainkit.data import TensorLoader
from trainkit.testing import TinyModule, quiet_trainer


class Ragged(Dataset):
    """Samples of the shapes ``(channels, n, 4)`` or ``(n, channels)``, of which each holds its index."""

    def __init__(self, sizes, channels, as_image):
        self.shapes = [(channels, size, 4) if as_image else (size, channels) for size in sizes]

    def __len__(self):
        return len(self.shapes)

    def __getitem__(self, index):
        return torch.full(self.shapes[index], float(index))


class Unsized:
    """A batch sampler without length, for which the loader is asked ahead."""

    def __init__(self, batches):
        self.batches = batches

    def __iter__(self):
        return iter(self.batches)


def value_of(sample):
    return sample.flatten()[0] ** 2


class Means(TinyModule):
    """Logs the mean over samples; what ``layout`` made of them is read as its user would."""

    def __init__(self, read, fails_above=99):
        super().__init__()
        self.read, self.fails_above = read, fails_above
        self.parts = []

    def training_step(self, batch, batch_idx):
        values = self.read(batch)
        if len(values) > self.fails_above:
            raise torch.OutOfMemoryError("too many")
        self.parts.append(len(values))
        self.log("mean", values.mean(), on_step=False, on_epoch=True)
        return self.layer.weight.sum() * values.mean()


def stacked(batch):
    return torch.stack([value_of(sample) for sample in batch])


LAYOUTS = {
    "list": (list, stacked),
    "dict": (lambda samples: {"x": samples, "y": torch.zeros(len(samples))}, lambda batch: stacked(batch["x"])),
    "pair": (lambda samples: (samples, ["name"] * len(samples)), lambda batch: stacked(batch[0])),
    "samples": (
        lambda samples: [{"x": sample, "y": torch.zeros(2)} for sample in samples],
        lambda batch: stacked([sample["x"] for sample in batch]),
    ),
}


@settings(max_examples=50, deadline=None)
@given(data=st.data())
def test_means_and_parts_are_those_of_a_plain_loop(data):
    sizes = data.draw(st.lists(st.integers(1, 5), min_size=1, max_size=9), label="sizes")
    batch_size = data.draw(st.integers(1, 5), label="batch_size")
    collate, read = LAYOUTS[data.draw(st.sampled_from(sorted(LAYOUTS)), label="layout")]
    dataset = Ragged(sizes, data.draw(st.sampled_from([1, 3, 6]), label="channels"), data.draw(st.booleans()))
    batches = [list(range(first, min(first + batch_size, len(sizes)))) for first in range(0, len(sizes), batch_size)]
    options = (
        {"batch_size": batch_size} if data.draw(st.booleans(), label="sized") else {"batch_sampler": Unsized(batches)}
    )
    module = Means(read)
    trainer = quiet_trainer(max_epochs=1)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        trainer.fit(module, DataLoader(dataset, collate_fn=collate, **options))
    assert module.parts == [len(batch) for batch in batches]
    expected = sum(value_of(dataset[index]).item() for index in range(len(sizes))) / len(sizes)
    assert trainer.callback_metrics["mean"].item() == pytest.approx(expected)


@pytest.mark.parametrize("layout", sorted(LAYOUTS))
@pytest.mark.parametrize("as_image", [True, False])
def test_a_batch_that_does_not_fit_is_split_by_samples(layout, as_image):
    collate, read = LAYOUTS[layout]
    dataset = Ragged([5, 2, 4, 3, 1, 5], 3, as_image)
    module = Means(read, fails_above=2)
    trainer = quiet_trainer(max_epochs=1, accumulate_grad_batches="auto")
    with pytest.warns(UserWarning, match="out of memory with 4 samples"):
        trainer.fit(module, DataLoader(dataset, batch_size=4, collate_fn=collate))
    assert module.parts == [2, 2, 2]
    assert trainer.callback_metrics["mean"].item() == pytest.approx(sum(n * n for n in range(6)) / 6)


@pytest.mark.parametrize("make", [TensorLoader, None])
def test_inputs_and_targets_of_one_rank_are_weighed_by_their_rows(make):
    x = torch.arange(7.0)[:, None, None].expand(7, 6, 8)
    y = torch.zeros(7, 2, 8)
    loader = (
        TensorLoader(x, y, batch_size=3) if make else DataLoader(torch.utils.data.TensorDataset(x, y), batch_size=3)
    )
    module = Means(lambda batch: batch[0][:, 0, 0] ** 2)
    trainer = quiet_trainer(max_epochs=1)
    trainer.fit(module, loader)
    assert trainer.callback_metrics["mean"].item() == pytest.approx(sum(n * n for n in range(7)) / 7)
