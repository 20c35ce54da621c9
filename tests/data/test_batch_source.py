"""Several loaders begin a pass, and find their places, as one."""

from __future__ import annotations

import pytest
import torch
from torch.utils.data import DataLoader, DistributedSampler, IterableDataset

from trainkit.data.batch_source import BatchSource
from trainkit.data.combined import CombinedLoader
from trainkit.errors import CheckpointError


class Draws(IterableDataset):
    """Has no position of its own: it has to be run again to the place where it was."""

    def __iter__(self):
        for _ in range(6):
            yield torch.rand(1).item()


def source_of(loader):
    return BatchSource(loader, "train_dataloader", knows_length=True)


def two_that_draw():
    return CombinedLoader([Draws(), Draws()])


def position(source):
    return {
        "cursors": source.with_contents([cursor.state_dict() for cursor in source.cursors]),
        "began": source.rng_at_start,
    }


@pytest.mark.filterwarnings("ignore:.*loaded and thrown away:UserWarning")
@pytest.mark.parametrize("done", [1, 3])
def test_loaders_that_draw_in_turn_are_replayed_together(done):
    torch.manual_seed(1)
    source = source_of(two_that_draw())
    batches = iter(source.begin(0))
    for _ in range(done):
        next(batches)
    state, drawn = position(source), torch.get_rng_state()
    expected = list(batches)

    torch.manual_seed(2)
    again = source_of(two_that_draw())
    again.load_state_dict(state, mid_epoch=True, resume="exact")
    rest = again.begin(done)
    torch.set_rng_state(drawn)
    assert list(rest) == expected
    assert position(again)["began"] is not None


def test_a_position_of_another_number_of_loaders_is_refused_or_begins_anew():
    state = position(source_of([1, 2, 3]))
    several = source_of(CombinedLoader([[1, 2], [3, 4]]))
    with pytest.raises(CheckpointError, match=r"train_dataloader consists of 2 loaders, .* of 1\."):
        several.load_state_dict(state, mid_epoch=True, resume="exact")
    with pytest.warns(UserWarning, match="consists of 2 loaders"):
        assert not several.load_state_dict(state, mid_epoch=True, resume="anyway")
    assert list(several.begin(0)) == [[1, 3], [2, 4]]


def test_of_what_was_restored_nothing_is_left_when_it_is_discarded():
    source = source_of(DataLoader(range(4)))
    batches = iter(source.begin(0))
    next(batches)
    state = position(source)
    source.load_state_dict(state, mid_epoch=True, resume="exact")
    source.discard_restored()
    assert [batch.item() for batch in source.begin(0)] == [0, 1, 2, 3]


def test_only_one_loader_tells_of_which_samples_a_batch_was_made():
    assert source_of(DataLoader(range(4), batch_size=1)).known_samples(0) is None  # none was given yet
    assert source_of(CombinedLoader([[1], [2]])).known_samples(0) == 0
    assert source_of(CombinedLoader([[1], [2]], "sequential")).known_samples(0) is None


def test_samplers_are_told_the_epoch_also_inside_a_combined_loader():
    def make():
        return DataLoader(range(8), sampler=DistributedSampler(range(8), num_replicas=2, rank=0))

    inside = make()
    for source in (source_of(inside), source_of(CombinedLoader([CombinedLoader([inside], "min_size")]))):
        source.set_epoch(3)
        assert inside.sampler.epoch == 3
        source.set_epoch(0)


def test_a_loader_with_an_epoch_of_its_own_is_told_once():
    class Shuffles(list):
        told = ()

        def set_epoch(self, epoch):
            self.told = (*self.told, epoch)

    loader = Shuffles([1])
    source_of(loader).set_epoch(2)
    assert loader.told == (2,)
