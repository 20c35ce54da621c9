"""A sampler that gives more than its length is used to its end, as in a plain ``for`` loop, and it is said once."""

from __future__ import annotations

import warnings

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils.data import DataLoader, RandomSampler, Sampler

from trainkit.data import TensorLoader
from trainkit.data.combined import CombinedLoader
from trainkit.data.loaders import LimitedLoader
from trainkit.data.sampler import shard
from trainkit.testing import TinyModule, quiet_trainer

TOLD = "ignore:.*gives more, which is used"


class Shuffled(Sampler):
    """Gives ``size`` indices, or lists of two of them, in random order, and says that there are ``promised``.

    At its end it draws from its generator once more, as torch's own does.
    """

    def __init__(self, size, promised, in_batches=False, seed=None):
        self.size, self.promised, self.in_batches = size, promised, in_batches
        self.generator = None if seed is None else torch.Generator().manual_seed(seed)

    def __len__(self):
        return self.promised

    def __iter__(self):
        order = torch.randperm(self.size, generator=self.generator).tolist()
        step = 2 if self.in_batches else 1
        for first in range(0, self.size, step):
            yield order[first : first + step] if self.in_batches else order[first]
        if self.generator is not None:
            torch.rand(1, generator=self.generator)


def batch_loader(size, promised, **options):
    own = {name: options.pop(name) for name in ("seed",) if name in options}
    return DataLoader(torch.arange(size), batch_sampler=Shuffled(size, promised, in_batches=True, **own), **options)


def given_by(limited, start=0):
    return [(index, batch.tolist(), is_last) for index, batch, is_last in limited.batches(start)]


class Notes(TinyModule):
    """Draws in each step, and notes what it sees."""

    def __init__(self):
        super().__init__()
        self.seen, self.updates, self.validated = [], [], []

    def training_step(self, batch, batch_idx):
        self.seen.append((self.current_epoch, batch_idx, batch.tolist(), torch.rand(1).item()))
        return self.layer.weight.sum()

    def on_before_optimizer_step(self):
        self.updates.append((self.trainer.progress.batch, round(self.layer.weight.grad.mean().item(), 5)))

    def validation_step(self, batch, batch_idx):
        self.validated.append(len(self.seen))


# One pass


@pytest.mark.filterwarnings(TOLD)
@settings(max_examples=60, deadline=None)
@given(
    size=st.integers(1, 14),
    promised=st.integers(1, 9),
    limit=st.just(1.0) | st.integers(1, 9),
    in_batches=st.booleans(),
    drop_last=st.booleans(),
    seed=st.none() | st.just(4),
)
def test_each_epoch_is_that_of_a_plain_loop(size, promised, limit, in_batches, drop_last, seed):
    def make():
        sampler = Shuffled(size, promised, in_batches, seed)
        if in_batches:
            return DataLoader(torch.arange(size), batch_sampler=sampler)
        return DataLoader(torch.arange(size), batch_size=2, sampler=sampler, drop_last=drop_last)

    promised_batches = len(make())
    if promised_batches == 0:
        return
    # A limit below the length cuts, and above it what the sampler gives is cut by the limit alone.
    most = limit if isinstance(limit, int) else 99
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".*ended after")
        torch.manual_seed(1)
        plain = make()
        expected = [[batch.tolist() for batch in plain] for _ in range(2)]
        torch.manual_seed(1)
        limited = LimitedLoader(make(), limit)
        epochs = []
        for epoch in range(2):
            limited.set_epoch(epoch)
            epochs.append(given_by(limited))
    for epoch, (whole, seen) in enumerate(zip(expected, epochs, strict=True)):
        if epoch and most <= len(whole) and seed is not None:
            break  # a limit may leave it before its end, where it would draw
        assert [batch for _, batch, _ in seen] == whole[:most]
        assert [index for index, _, _ in seen] == list(range(len(seen)))
        is_short = len(whole) < min(promised_batches, most)
        assert [is_last for _, _, is_last in seen] == [not is_short and n == len(seen) - 1 for n in range(len(seen))]


def test_it_is_said_once():
    limited = LimitedLoader(batch_loader(12, 4), 1.0, "train_dataloader")
    with pytest.warns(UserWarning, match=r"train_dataloader has a length of 4 and gives more, which is used") as told:
        assert [len(given_by(limited)) for _ in range(2)] == [6, 6]
    assert len(told) == 1


@pytest.mark.parametrize("limit", [2, 4, 0.5])
def test_what_a_limit_cuts_is_meant(limit):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert len(given_by(LimitedLoader(batch_loader(12, 4), limit))) == (limit if isinstance(limit, int) else 2)


def test_samplers_of_torch_are_not_asked_ahead_of_their_turn():
    generator = torch.Generator().manual_seed(0)
    limited = LimitedLoader(DataLoader(range(4), sampler=RandomSampler(range(4), generator=generator)))
    states = [generator.get_state() for _ in limited.batches()]
    assert all(torch.equal(state, states[0]) for state in states)
    assert not torch.equal(generator.get_state(), states[0]), "it draws at its end"


def test_a_data_set_that_has_grown_since_the_epoch_began_is_no_lie():
    data = [0, 1]
    limited = LimitedLoader(DataLoader(data))
    data.append(2)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert [is_last for _, _, is_last in given_by(limited)] == [False, False, True]
        limited.set_epoch(1)
        assert limited.num_batches == 3


@pytest.mark.filterwarnings(TOLD)
@pytest.mark.parametrize("promised", [3, 7, 9])
def test_tensors_in_the_order_of_such_a_sampler(promised):
    limited = LimitedLoader(TensorLoader(torch.arange(9), batch_size=2, sampler=Shuffled(9, promised)))
    seen = [(index, batch[0].tolist(), is_last) for index, batch, is_last in limited.batches()]
    assert sorted(number for _, batch, _ in seen for number in batch) == list(range(9))
    assert [is_last for _, _, is_last in seen] == [False] * 4 + [True]


@pytest.mark.filterwarnings(TOLD)
def test_ranks_are_dealt_all_of_it():
    parts = [shard(batch_loader(16, 3, seed=1), rank, 2, training=True) for rank in range(2)]
    seen = [given_by(LimitedLoader(part)) for part in parts]
    assert sorted(number for part in seen for _, batch, _ in part for number in batch) == list(range(16))
    assert [[is_last for _, _, is_last in part] for part in seen] == [[False, False, False, True]] * 2


# A whole fit


@pytest.mark.filterwarnings(TOLD)
@pytest.mark.parametrize("num_workers", [0, 2])
def test_validation_and_the_last_group_come_after_the_true_last_batch(num_workers):
    module = Notes()
    trainer = quiet_trainer(max_epochs=2, accumulate_grad_batches=3, num_sanity_val_steps=0)
    trainer.fit(module, batch_loader(16, 5, num_workers=num_workers), DataLoader(torch.zeros(1)))
    for epoch in range(2):
        assert sorted(number for seen in module.seen if seen[0] == epoch for number in seen[2]) == list(range(16))
    assert module.validated == [8, 16]
    # Each of its batches weighs the same, also in the group in which the promised length ended.
    assert module.updates == [(2, 1.0), (5, 1.0), (7, 1.0)] * 2


@pytest.mark.filterwarnings(TOLD)
@pytest.mark.parametrize("num_workers", [0, 1])
@pytest.mark.parametrize("seed", [None, 3])
@pytest.mark.parametrize("promised", [3, 6])
def test_a_run_goes_on_exactly_before_in_and_after_the_surplus(tmp_path, promised, seed, num_workers):
    class Saves:
        def on_train_batch_end(self, trainer, batch_idx):
            if not num_workers or batch_idx in (promised - 1, 4):
                trainer.save_checkpoint(tmp_path / f"{trainer.current_epoch}-{batch_idx}.ckpt")

    def fit(callbacks=(), **arguments):
        torch.manual_seed(7)
        module = Notes()
        trainer = quiet_trainer(max_epochs=2, callbacks=list(callbacks), num_sanity_val_steps=0)
        trainer.fit(
            module,
            batch_loader(12, promised, seed=seed, num_workers=num_workers),
            DataLoader(torch.zeros(1)),
            **arguments,
        )
        return module

    whole = fit([Saves()])
    assert len(whole.seen) == 12
    for file in sorted(tmp_path.iterdir()):
        epoch, batch_idx = map(int, file.stem.split("-"))
        module = fit(ckpt_path=file)
        done = epoch * 6 + batch_idx + 1
        assert module.seen == whole.seen[done:], file.name
        assert len(module.validated) == len([at for at in whole.validated if at >= done]), file.name


MODES = {"min_size": 5, "max_size": 6, "max_size_cycle": 6, "sequential": 14}


@pytest.mark.filterwarnings(TOLD)
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("promised", [(1, 1), (2, 4), (6, 5)])
def test_several_loaders_are_used_to_their_end_too(mode, promised):
    sizes = (12, 10) if mode != "sequential" else (12, 16)
    loaders = [batch_loader(size, count, seed=0) for size, count in zip(sizes, promised, strict=True)]
    limited = LimitedLoader(CombinedLoader(loaders, mode))
    for epoch in range(2):
        limited.set_epoch(epoch)
        assert [is_last for *_, is_last in limited.batches()] == [False] * (MODES[mode] - 1) + [True]


@pytest.mark.filterwarnings(TOLD)
@pytest.mark.parametrize("mode", MODES)
def test_several_loaders_go_on_exactly_in_the_surplus(tmp_path, mode):
    class Saves:
        def on_train_batch_end(self, trainer, batch_idx):
            trainer.save_checkpoint(tmp_path / f"{trainer.current_epoch}-{batch_idx}.ckpt")

    class NotesAll(Notes):
        def training_step(self, batch, batch_idx):
            each = batch if isinstance(batch, list) else [batch]
            batch = torch.cat([torch.tensor([-1]) if one is None else one for one in each])
            return super().training_step(batch, batch_idx)

    def fit(callbacks=(), **arguments):
        torch.manual_seed(7)
        module = NotesAll()
        loader = CombinedLoader([batch_loader(12, 2), batch_loader(10, 3, seed=1)], mode)
        quiet_trainer(max_epochs=2, callbacks=list(callbacks)).fit(module, loader, **arguments)
        return module.seen

    whole = fit([Saves()])
    length = len(whole) // 2
    assert length == {**MODES, "sequential": 11}[mode]
    for file in sorted(tmp_path.iterdir()):
        epoch, batch_idx = map(int, file.stem.split("-"))
        assert fit(ckpt_path=file) == whole[epoch * length + batch_idx + 1 :], file.name
