"""A run that goes on in the middle of an epoch has the batches of one that was left alone, or it says why not."""

from __future__ import annotations

import random
from itertools import product

import pytest
import torch
from torch.utils.data import DataLoader, IterableDataset, Sampler, WeightedRandomSampler

from trainkit.data import CombinedLoader, TensorLoader
from trainkit.errors import CheckpointError, UnknownNameError
from trainkit.testing import Recorder, TinyModule, quiet_trainer

pytestmark = pytest.mark.filterwarnings("ignore:.*(cannot be told where to begin|in turn with training)")


class Notes(TinyModule):
    """Draws in each step, and notes its batches."""

    def __init__(self):
        super().__init__()
        self.seen = []

    def training_step(self, batch, batch_idx):
        torch.rand(2), random.random()
        self.seen.append((self.current_epoch, batch_idx, plain(batch)))
        return self.layer.weight.sum()


def plain(batch):
    if isinstance(batch, dict):
        return {name: plain(each) for name, each in batch.items()}
    return batch.tolist() if isinstance(batch, torch.Tensor) else batch and [plain(each) for each in batch]


class Stream(IterableDataset):
    """Draws its order when its first sample is asked for, and noise for each."""

    def __init__(self, size):
        self.size = size

    def __iter__(self):
        for index in torch.randperm(self.size).tolist():
            yield torch.tensor(index + 100.0) + torch.rand(())


class Unsized(Sampler):
    def __init__(self, size):
        self.size = size

    def __iter__(self):
        return iter(torch.randperm(self.size).tolist())


class Buckets(Unsized):
    """Batches of two in random order."""

    def __iter__(self):
        batches = [[index] for index in range(self.size)]
        random.shuffle(batches)
        return iter(batches)

    def __len__(self):
        return self.size


class Stateful:
    def __init__(self, size):
        self.size, self.given, self.order = size, 0, None
        self.generator = torch.Generator().manual_seed(3)

    def __iter__(self):
        if self.order is None:
            self.order, self.given = torch.randperm(self.size, generator=self.generator), 0
        while self.given < self.size:
            self.given += 1
            yield self.order[self.given - 1 : self.given] + 200.0
        self.order = None

    def state_dict(self):
        return {"given": self.given, "order": self.order, "generator": self.generator.get_state()}

    def load_state_dict(self, state):
        self.given, self.order = state["given"], state["order"]
        self.generator.set_state(state["generator"])


def numbers(size, **options):
    return DataLoader(torch.arange(float(size)), **options)


LOADERS = {
    "map": lambda size: numbers(size, batch_size=2),
    "shuffled": lambda size: numbers(size, batch_size=2, shuffle=True),
    "own generator": lambda size: numbers(size, shuffle=True, generator=torch.Generator().manual_seed(5)),
    "weighted": lambda size: numbers(size, batch_size=2, sampler=WeightedRandomSampler([1.0] * size, size)),
    "batch sampler": lambda size: numbers(size, batch_sampler=Buckets(size)),
    "no length": lambda size: numbers(size, batch_size=2, sampler=Unsized(size)),
    "stream": lambda size: DataLoader(Stream(size), batch_size=2),
    "tensors": lambda size: TensorLoader(torch.arange(float(size)), batch_size=2, shuffle=True),
    "stateful": Stateful,
}
WITH_WORKERS = {
    "shuffled": lambda: numbers(7, batch_size=2, shuffle=True, num_workers=1),
    "stream": lambda: DataLoader(Stream(7), batch_size=2, num_workers=1),
    "persistent": lambda: numbers(7, batch_size=2, shuffle=True, num_workers=1, persistent_workers=True),
}
MODES = ("min_size", "max_size", "max_size_cycle", "sequential")


class Saves:
    """Saves in one hook, and notes how many batches had been seen."""

    stage = "persist"

    def __init__(self, folder, hook="on_train_batch_end"):
        self.folder, self.stops = folder, []
        setattr(self, hook, self._save)

    def _save(self, trainer, module):
        self.stops.append((self.folder / f"{len(self.stops)}.ckpt", len(module.seen)))
        trainer.save_checkpoint(self.stops[-1][0])


def fit(loader, *, seed=0, callbacks=(), epochs=2, **arguments):
    torch.manual_seed(seed), random.seed(seed)
    module = Notes()
    quiet_trainer(max_epochs=epochs, callbacks=[*callbacks]).fit(module, loader, **arguments)
    return module.seen


def require_equal(make, tmp_path, every=1, **arguments):
    saves = Saves(tmp_path, **arguments)
    whole = fit(make(), callbacks=[saves])
    for path, seen in saves.stops[::every]:
        assert fit(make(), seed=1, ckpt_path=path) == whole[seen:], path


@pytest.mark.parametrize("name", LOADERS)
def test_a_loader_goes_on_with_the_batches_that_are_left(tmp_path, name):
    require_equal(lambda: LOADERS[name](7), tmp_path)


@pytest.mark.parametrize("name", WITH_WORKERS)
def test_workers_do_too(tmp_path, name):
    require_equal(WITH_WORKERS[name], tmp_path, every=3)


# A stream beside a stateful loader finds its place alone, though both draw in turn, of which a warning tells.
PAIRS = [pair for pair in product(LOADERS, repeat=2) if set(pair) != {"stream", "stateful"}]


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(("one", "two"), PAIRS)
def test_several_loaders_do_too(tmp_path, one, two, mode):
    def make():
        return CombinedLoader({"one": LOADERS[one](7), "two": LOADERS[two](3)}, mode)

    require_equal(make, tmp_path, every=3)


# In the middle of a step


def test_a_stateful_loader_that_is_saved_in_a_step_gives_its_batch_again(tmp_path):
    saves = Saves(tmp_path, hook="on_before_zero_grad")
    with pytest.warns(UserWarning, match="in the middle of a step"):
        whole = fit(SizedStateful(5), callbacks=[saves], epochs=1)
    path, seen = saves.stops[2]  # its step has been noted by then
    resumed = fit(SizedStateful(5), ckpt_path=path, epochs=1)
    assert resumed == whole[seen - 1 :]


class SizedStateful(Stateful):
    def __len__(self):
        return self.size


# Other data

OTHERS = {
    "more samples": (lambda: LOADERS["shuffled"](8), lambda: LOADERS["shuffled"](12)),
    "other values": (lambda: DataLoader(torch.zeros(8), 2), lambda: DataLoader(list(torch.ones(8)), 2)),
    "list": (lambda: [torch.zeros(1)] * 4, lambda: [torch.ones(1)] * 4),
    "stream": (lambda: DataLoader(Stream(8), 2), lambda: DataLoader(Stream(9), 2)),
    "another kind": (lambda: LOADERS["shuffled"](8), lambda: [torch.ones(1)] * 4),
    "shorter batch sampler": (lambda: LOADERS["batch sampler"](4), lambda: numbers(4, batch_sampler=[[1], [2], [3]])),
    "fewer than were done": (lambda: LOADERS["shuffled"](8), lambda: LOADERS["shuffled"](2)),
    "one of two": (
        lambda: CombinedLoader([LOADERS["shuffled"](8), Stream(4)], "max_size_cycle"),
        lambda: CombinedLoader([LOADERS["shuffled"](9), Stream(4)], "max_size_cycle"),
    ),
    "another number": (lambda: [LOADERS["map"](8), LOADERS["map"](8)], lambda: LOADERS["map"](8)),
}


@pytest.fixture(params=OTHERS)
def other(request, tmp_path):
    """A checkpoint behind the second of four batches, and another loader."""
    make, make_other = OTHERS[request.param]
    saves = Saves(tmp_path)
    fit(make(), callbacks=[saves])
    return saves.stops[1][0], make_other


def test_other_data_are_an_error_that_names_the_ways_to_go_on(other):
    path, make = other
    with pytest.raises(CheckpointError, match=r'(?s)resume="next_epoch".*resume="anyway"'):
        fit(make(), ckpt_path=path)


def test_the_next_epoch_begins_where_the_rest_is_left_out(other):
    path, make = other
    recorder = Recorder(only=["on_train_epoch_start", "on_train_epoch_end", "on_validation_start"])
    with pytest.warns(UserWarning, match="leaves out the rest of epoch 0: .* batches after the first 2"):
        seen = fit(make(), ckpt_path=path, resume="next_epoch", callbacks=[recorder])
    assert {epoch for epoch, _, _ in seen} == {1}
    assert [call[0] for call in recorder.calls] == ["on_train_epoch_end", "on_train_epoch_start", "on_train_epoch_end"]


def test_going_on_anyway_begins_behind_what_was_done_and_says_so(other):
    path, make = other
    with pytest.warns(UserWarning, match="the run is not exact from here"):
        seen = fit(make(), ckpt_path=path, resume="anyway")
    first = [batch_idx for epoch, batch_idx, _ in seen if epoch == 0]
    assert first == list(range(2, 2 + len(first)))
    assert next(batch_idx for epoch, batch_idx, _ in seen if epoch == 1) == 0


def test_the_same_data_go_on_exactly_anyway(tmp_path, recwarn):
    saves = Saves(tmp_path)
    whole = fit(LOADERS["shuffled"](8), callbacks=[saves])
    path, seen = saves.stops[1]
    assert fit(LOADERS["shuffled"](8), seed=1, ckpt_path=path, resume="anyway") == whole[seen:]
    assert not [each for each in recwarn if "not exact" in str(each.message)]


def test_a_misspelt_way_is_an_error():
    with pytest.raises(UnknownNameError, match="next_epoch"):
        fit([], resume="next_epoc")


# Lengths


def test_the_length_of_a_data_set_is_read_anew_in_each_epoch():
    samples = [torch.tensor(float(index)) for index in range(3)]

    class Grows:
        def on_train_epoch_end(self):
            samples.extend(samples[:2])

    seen = fit(DataLoader(samples, shuffle=True), callbacks=[Grows()])
    assert [epoch for epoch, _, _ in seen] == [0] * 3 + [1] * 5


def test_a_sampler_that_gives_more_than_its_length_is_told():
    class Longer(Unsized):
        def __len__(self):
            return self.size - 2

    with pytest.warns(UserWarning, match="train_dataloader has a length of 3 and gives more, which is used"):
        assert len(fit(numbers(5, sampler=Longer(5)), epochs=1)) == 5
