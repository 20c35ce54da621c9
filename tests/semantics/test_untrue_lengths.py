"""Loaders with another length than they say: none is used or left out in silence, and an epoch ends as any other."""

from __future__ import annotations

import warnings

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils.data import DataLoader, IterableDataset, RandomSampler, Sampler

from trainkit.callbacks import ModelCheckpoint
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


class Says:
    """Gives ``size`` batches, and says that there are ``promised``."""

    def __init__(self, size, promised):
        self.size, self.promised = size, promised

    def __len__(self):
        return self.promised

    def __iter__(self):
        for number in range(self.size):
            yield torch.tensor([number])


class SaysInData(IterableDataset, Says):
    def __iter__(self):
        yield from range(self.size)


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


# Other loaders that give more: what is beyond their length may be endless


MORE = r"has a length of 3 and gives more, which is left out; let len\(\) tell the truth, or say {}=3"


@pytest.mark.parametrize("num_workers", [None, 0, 1])
def test_what_is_left_out_behind_a_length_is_told_once(num_workers):
    loader = Says(5, 3) if num_workers is None else DataLoader(SaysInData(5, 3), num_workers=num_workers, batch_size=1)
    limited = LimitedLoader(loader, 1.0, "train_dataloader", "limit_train_batches")
    with pytest.warns(UserWarning, match=MORE.format("limit_train_batches")) as told:
        seen = [given_by(limited) for _ in range(2)]
    # Newer versions of Python warn of each worker that is forked.
    assert sum("which is left out" in str(each.message) for each in told) == 1
    assert seen == [[(0, [0], False), (1, [1], False), (2, [2], True)]] * 2


@pytest.mark.parametrize(("size", "limit"), [(3, 1.0), (5, 3), (5, 2), (5, 0.7)])
def test_nothing_is_told_where_a_length_is_true_or_a_limit_cuts(size, limit):
    limited = LimitedLoader(Says(size, 3), limit)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert given_by(limited)[-1][-1]


def test_the_look_leaves_random_numbers_alone():
    class Draws(Says):
        def __iter__(self):
            return (torch.rand(1) for _ in range(self.size))

    def drawn(size):
        torch.manual_seed(0)
        return [batch.item() for _, batch, _ in LimitedLoader(Draws(size, 3)).batches()], torch.rand(1).item()

    with pytest.warns(UserWarning, match="gives more"):
        longer = drawn(5)
    assert longer == drawn(3)


def test_a_validation_tells_it_too():
    with pytest.warns(UserWarning, match=f"val_dataloader.*{MORE.format('limit_val_batches')}"):
        quiet_trainer().validate(Notes(), Says(5, 3), verbose=False)


# Loaders that end before their length


class Short(Notes):
    """Has a scheduler for each epoch, and notes with what rate it is validated and ends an epoch."""

    def __init__(self):
        super().__init__()
        self.rates, self.lasts = [], []

    def validation_step(self, batch, batch_idx):
        super().validation_step(batch, batch_idx)
        self.log("val/loss", self.layer.weight.sum())

    def on_train_epoch_end(self):
        self.lasts.append(self.trainer.is_last_batch)

    def on_train_epoch_start(self):
        self.rates.append(self.trainer.optimizers[0].param_groups[0]["lr"])

    def configure_optimizers(self):
        optimizer = torch.optim.SGD(self.parameters(), lr=1.0)
        return [optimizer], [torch.optim.lr_scheduler.StepLR(optimizer, 1, gamma=0.5)]


ENDED = "ignore:.*ended after 3 batches"


@pytest.mark.filterwarnings(ENDED)
@pytest.mark.parametrize("every", [1, 2])
def test_an_epoch_that_ends_early_is_validated_and_saved_as_any_other(tmp_path, every):
    module = Short()
    saves = ModelCheckpoint(dirpath=tmp_path, monitor="val/loss", save_top_k=-1)
    trainer = quiet_trainer(
        max_epochs=3,
        accumulate_grad_batches=every,
        callbacks=[saves],
        enable_checkpointing=True,
        default_root_dir=tmp_path,
    )
    trainer.fit(module, Says(3, 5), DataLoader(torch.zeros(1)))
    assert module.validated == [3, 6, 9]
    assert module.lasts == [True] * 3
    assert module.rates == [1.0, 0.5, 0.25]
    assert trainer.global_step == (9 if every == 1 else 6)
    assert len(saves.best_k_models) == 3


@pytest.mark.filterwarnings(ENDED)
@pytest.mark.filterwarnings("ignore:.*cannot be told where to begin")
@pytest.mark.filterwarnings("ignore:Detected call")  # the update was in the process that is continued
def test_a_run_goes_on_exactly_around_an_early_end(tmp_path):
    class Saves:
        def save(self, trainer, at):
            trainer.save_checkpoint(tmp_path / f"{trainer.current_epoch}-{trainer.progress.batch}-{at}.ckpt")

        def on_train_batch_end(self, trainer):
            self.save(trainer, "batch")

        def on_validation_batch_end(self, trainer):
            self.save(trainer, "validation")

        def on_train_epoch_end(self, trainer):
            self.save(trainer, "end")

    def fit(callbacks=(), **arguments):
        torch.manual_seed(7)
        module = Short()
        trainer = quiet_trainer(max_epochs=2, callbacks=list(callbacks))
        trainer.fit(module, Says(3, 5), DataLoader(torch.zeros(1)), **arguments)
        return module, trainer

    whole, trainer = fit([Saves()])
    for file in sorted(tmp_path.iterdir()):
        epoch, batches, at = file.stem.split("-")
        module, resumed = fit(ckpt_path=file)
        done = int(epoch) * 3 + int(batches)
        assert module.seen == whole.seen[done:], file.name
        validated = int(epoch) + (at != "batch")
        assert len(module.validated) == 2 - validated, file.name
        assert resumed.optimizers[0].param_groups[0]["lr"] == trainer.optimizers[0].param_groups[0]["lr"], file.name


@pytest.mark.filterwarnings(ENDED)
def test_a_rest_that_is_left_out_is_not_an_early_end(tmp_path):
    class Saves:
        def on_train_batch_end(self, trainer, batch_idx):
            if batch_idx == 1:
                trainer.save_checkpoint(tmp_path / "saved.ckpt")

    quiet_trainer(callbacks=[Saves()]).fit(Notes(), Says(3, 5), DataLoader(torch.zeros(1)))
    module = Notes()
    with pytest.warns(UserWarning, match="leaves out the rest"):
        quiet_trainer().fit(
            module, Says(3, 5), DataLoader(torch.zeros(1)), ckpt_path=tmp_path / "saved.ckpt", resume="next_epoch"
        )
    assert module.validated == []
