from __future__ import annotations

import random

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.utils.data import DataLoader, RandomSampler, SubsetRandomSampler, TensorDataset, WeightedRandomSampler

from trainkit.data import CombinedLoader, TensorLoader
from trainkit.data.overfit import in_fixed_order
from trainkit.data.sampler import is_shard, shard
from trainkit.errors import DataError
from trainkit.testing import TinyModule, quiet_trainer

X = torch.arange(44.0).reshape(11, 4)
Y = torch.arange(11)
SAMPLERS = {
    "in order": lambda: {},
    "shuffled": lambda: {"shuffle": True},
    "own generator": lambda: {"shuffle": True, "generator": torch.Generator().manual_seed(3)},
    "weighted": lambda: {"sampler": WeightedRandomSampler([1.0, 9.0, 2.0], 7)},
    "some of them": lambda: {"sampler": SubsetRandomSampler([2, 3, 5, 7])},
    "more than there are": lambda: {"sampler": RandomSampler(range(11), num_samples=25)},
    "with replacement": lambda: {"sampler": RandomSampler(range(11), replacement=True)},
    "a list": lambda: {"sampler": [4, 4, 1, 0]},
}


def rows(loader):
    """The samples of each batch."""
    return [batch[1].tolist() for batch in loader]


@given(
    kind=st.sampled_from(list(SAMPLERS)), batch_size=st.integers(1, 12), drop_last=st.booleans(), views=st.booleans()
)
def test_batches_and_random_numbers_are_those_of_a_data_loader_over_a_tensor_dataset(
    kind, batch_size, drop_last, views
):
    def two_passes(make, dataset, **options):
        options |= SAMPLERS[kind]()
        torch.manual_seed(5)
        loader = make(*dataset, batch_size=batch_size, drop_last=drop_last, **options)
        batches = [batch for _ in range(2) for batch in loader]
        return len(loader), batches, torch.get_rng_state(), options.get("generator", torch.Generator()).get_state()

    expected = two_passes(DataLoader, [TensorDataset(X, Y)])
    actual = two_passes(TensorLoader, [X, Y], views=views)

    assert actual[0] == expected[0]
    assert len(actual[1]) == len(expected[1])
    for batch, other in zip(actual[1], expected[1], strict=True):
        assert type(batch) is type(other) is list
        assert all(map(torch.equal, batch, other))
    assert torch.equal(actual[2], expected[2])
    assert torch.equal(actual[3], expected[3])


def test_a_dict_of_tensors_gives_dicts():
    batches = list(TensorLoader({"x": X, "y": Y}, batch_size=8))
    assert [list(batch) for batch in batches] == [["x", "y"]] * 2
    assert torch.equal(batches[1]["x"], X[8:])


@pytest.mark.parametrize("shuffle", [False, True])
def test_a_step_may_change_its_batch_in_place(shuffle):
    x = X.clone()
    for (batch,) in TensorLoader(x, batch_size=4, shuffle=shuffle):
        batch.zero_()
    assert torch.equal(x, X)


def test_views_share_memory_with_the_tensors():
    assert [batch[0].data_ptr() for batch in TensorLoader(X, batch_size=4, views=True)] == [
        X[first].data_ptr() for first in (0, 4, 8)
    ]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: TensorLoader(), "got nothing"),
        (lambda: TensorLoader([1, 2]), r"got list.*torch\.as_tensor"),
        (lambda: TensorLoader(X, {"y": Y}), "got dict"),
        (lambda: TensorLoader(X, Y[:3]), r"\(11, 4\), \(3,\)"),
        (lambda: TensorLoader(torch.tensor(1.0)), "one row per sample"),
        (lambda: TensorLoader(X[:0]), "no samples"),
        (lambda: TensorLoader(X, Y.to("meta")), "one device"),
        (lambda: TensorLoader(X, batch_size=0), "batch_size=0"),
        (lambda: TensorLoader(X, batch_size=True), "batch_size=True"),
        (lambda: TensorLoader(X, shuffle=True, sampler=[1]), "contradict"),
    ],
)
def test_what_cannot_be_served_is_an_error_that_says_so(make, message):
    with pytest.raises(DataError, match=f"(?s){message}"):
        make()


# Ranks


def dealt(loader, world_size, *, training, epoch=0):
    """The samples of each rank, round by round."""
    ranks = []
    for rank in range(world_size):
        part = shard(loader, rank, world_size, training=training, seed=1)
        assert is_shard(part)
        part.sampler.set_epoch(epoch)
        torch.manual_seed(rank)  # ranks have generators of their own, which must not matter
        ranks.append(rows(part))
    return ranks


@given(world_size=st.integers(1, 4), batch_size=st.integers(1, 5), shuffle=st.booleans(), training=st.booleans())
def test_ranks_get_what_they_would_get_of_a_data_loader(world_size, batch_size, shuffle, training):
    ours = TensorLoader(X, Y, batch_size=batch_size, shuffle=shuffle)
    torchs = DataLoader(TensorDataset(X, Y), batch_size=batch_size, shuffle=shuffle)
    for epoch in range(2):
        expected = dealt(torchs, world_size, training=training, epoch=epoch)
        assert dealt(ours, world_size, training=training, epoch=epoch) == expected


def test_evaluation_on_two_ranks_sees_every_sample_exactly_once():
    ranks = dealt(TensorLoader(X, Y, batch_size=2), 2, training=False)
    assert ranks == [[[0, 2], [4, 6], [8, 10]], [[1, 3], [5, 7], [9]]]


def test_ranks_drop_a_short_round_with_drop_last():
    ranks = dealt(TensorLoader(X, Y, batch_size=1, drop_last=True), 2, training=True)
    assert ranks == [[[0], [2], [4], [6], [8]], [[1], [3], [5], [7], [9]]]


# In a run


class Seeing(TinyModule):
    """Notes its batches in each stage."""

    def __init__(self):
        super().__init__()
        self.seen = {}

    def loss(self, batch):
        self.seen.setdefault(str(self.trainer.state.stage), []).append(batch[1][:, 0].tolist())
        return super().loss(batch)

    def predict_step(self, batch, batch_idx):
        return batch[1][:, 0].tolist()


def loader(**options):
    return TensorLoader(X, torch.stack([Y, Y], dim=1).float(), batch_size=4, **options)


IN_ORDER = [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9, 10]]


def test_it_serves_fit_validate_test_and_predict():
    module, trainer = Seeing(), quiet_trainer()
    trainer.fit(module, loader(shuffle=True), loader())
    assert trainer.num_training_batches == 3
    trainer.test(module, loader(), verbose=False)

    trained = [index for batch in module.seen["train"] for index in batch]
    assert sorted(trained) == list(range(11)) != trained
    assert module.seen["validate"] == module.seen["test"] == trainer.predict(module, loader()) == IN_ORDER


def test_limits_and_overfit_batches_cut_it_off():
    module = Seeing()
    quiet_trainer(max_epochs=2, overfit_batches=2).fit(module, loader(shuffle=True))
    assert module.seen["train"] == IN_ORDER[:2] * 2

    module = Seeing()
    quiet_trainer(limit_train_batches=0.4).fit(module, loader())
    assert module.seen["train"] == IN_ORDER[:1]


def test_overfitting_keeps_the_order_that_another_sampler_gave_first():
    fixed = in_fixed_order(loader(sampler=SubsetRandomSampler(range(11))))
    assert rows(fixed) == rows(fixed)


def test_a_list_of_them_is_several_loaders():
    class Several(TinyModule):
        def training_step(self, batches, batch_idx):
            return sum(self.loss(batch) for batch in batches)

        def validation_step(self, batch, batch_idx, dataloader_idx):
            pass

    trainer = quiet_trainer()
    trainer.fit(Several(), [loader(), loader(shuffle=True)], [loader(), loader()])
    assert trainer.num_training_batches == 3
    assert trainer.num_val_batches == [3, 3]


def test_a_combined_loader_takes_it():
    combined = CombinedLoader({"a": loader(), "b": TensorLoader(X, Y, batch_size=2)}, "max_size_cycle")
    assert len(combined) == len(list(combined.batches())) == 6


def test_the_global_generators_of_others_are_left_alone():
    random.seed(1), np.random.seed(1)
    before = random.getstate(), np.random.get_state()[1].tolist()
    list(loader(shuffle=True))
    assert (random.getstate(), np.random.get_state()[1].tolist()) == before
