from __future__ import annotations

from collections.abc import Iterator
from itertools import combinations, islice
from typing import Any

import pytest
import torch
from torch.utils.data import BatchSampler, DataLoader, RandomSampler

from trainkit.data.first_samples import FirstItems
from trainkit.data.resume.cursor import Cursor, generators_of, moved
from trainkit.data.sampler import shard
from trainkit.errors import CheckpointError
from trainkit.seed import rng_state, same_rng_state
from trainkit.testing import assert_same_state


class Shuffled:
    """Five numbers in an order that is drawn at the beginning of each pass; from a generator, if it has one."""

    def __init__(self, generator: torch.Generator | None = None) -> None:
        self.generator = generator

    def __iter__(self) -> Iterator[int]:
        return iter(torch.randperm(5, generator=self.generator).tolist())

    def __len__(self) -> int:
        return 5


class Skipping(Cursor):
    """Finds its place by beginning anew."""

    def _continue(self, given: int) -> Iterator[Any]:
        return islice(self._begin(), given, None)


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def stopped_after(given: int, generator: torch.Generator | None = None) -> tuple[dict[str, Any], list[int]]:
    """Return the state after ``given`` batches, and what comes then, in that pass and the next."""
    cursor = Skipping(Shuffled(generator), "loader")
    batches = iter(cursor)
    assert len(list(islice(batches, given))) == given
    torch.rand(3, generator=generator)  # a transform draws too, in the middle of the pass
    state = cursor.state_dict()
    rng = rng_state()
    rest = list(batches)
    return {**state, "rng": rng}, rest + list(cursor)


@pytest.mark.parametrize("given", [1, 3, 5])
@pytest.mark.parametrize("has_generator", [False, True])
def test_a_pass_goes_on_where_it_stood_and_the_next_is_the_one_that_would_have_come(
    given: int, has_generator: bool
) -> None:
    torch.manual_seed(3)
    state, expected = stopped_after(given, seeded(1) if has_generator else None)
    cursor = Skipping(Shuffled(seeded(2) if has_generator else None), "loader")
    cursor.load_state_dict(state, mid_epoch=True)
    assert cursor.restored
    torch.set_rng_state(state["rng"]["torch"])
    assert list(cursor) + list(cursor) == expected
    assert not cursor.restored


def test_finding_the_place_draws_nothing_that_training_would_see() -> None:
    state, _ = stopped_after(2)
    cursor = Skipping(Shuffled(), "loader")
    cursor.load_state_dict(state, mid_epoch=True)
    before = rng_state()
    iter(cursor)
    assert same_rng_state(before, rng_state())


def test_between_epochs_a_new_pass_begins_with_the_generators_of_the_checkpoint() -> None:
    state, (*_, a, b, c, d, e) = stopped_after(5, seeded(1))
    cursor = Skipping(Shuffled(seeded(2)), "loader")
    cursor.load_state_dict(state, mid_epoch=False)
    assert not cursor.restored
    assert list(cursor) == [a, b, c, d, e]


def test_a_place_before_the_first_batch_is_no_place_to_go_on_from() -> None:
    cursor = Skipping(Shuffled(), "loader")
    cursor.load_state_dict(Skipping(Shuffled(), "loader").state_dict(), mid_epoch=True)
    assert not cursor.restored
    assert sorted(cursor) == list(range(5))


def test_a_place_may_be_forgotten() -> None:
    state, _ = stopped_after(3)
    cursor = Skipping(Shuffled(), "loader")
    cursor.load_state_dict(state, mid_epoch=True)
    cursor.discard_restored()
    assert not cursor.restored
    assert len(list(cursor)) == 5


def test_what_was_given_and_not_consumed_yet_does_not_count() -> None:
    cursor = Skipping(Shuffled(), "loader")
    batches = iter(cursor)
    next(batches), next(batches)
    assert [cursor.state_dict(under_way)["given"] for under_way in (0, 1)] == [2, 1]


def test_a_place_that_was_found_counts_on_from_there() -> None:
    state, _ = stopped_after(3)
    cursor = Skipping(Shuffled(), "loader")
    cursor.load_state_dict(state, mid_epoch=True)
    next(iter(cursor))
    again = cursor.state_dict()
    assert again["given"] == 4
    assert_same_state(again["began"], state["began"])


def test_a_loader_whose_turn_has_not_come_stands_at_the_beginning() -> None:
    cursor = Skipping(Shuffled(), "loader")
    list(cursor)
    cursor.rewind()
    state = cursor.state_dict()
    assert (state["given"], state["began"]) == (0, None)


def test_the_place_of_another_kind_of_loader_is_refused() -> None:
    state, _ = stopped_after(2)
    cursor = Skipping(Shuffled(), "train_dataloader")
    message = r"train_dataloader is a Shuffled, .*\(Skipping\).*checkpoint \(IndexCursor\)[\s\S]*resume with the same"
    with pytest.raises(CheckpointError, match=message):
        cursor.load_state_dict({**state, "kind": "IndexCursor"}, mid_epoch=True)


def test_it_is_as_long_as_its_loader() -> None:
    assert len(Skipping(Shuffled(), "loader")) == 5


# Around it


def test_generators_are_found_wherever_the_user_gave_them_and_none_twice() -> None:
    one, two = seeded(1), seeded(2)
    sampler = RandomSampler(range(4), generator=one)
    assert generators_of(Shuffled()) == []
    assert generators_of(Shuffled(one)) == [one]
    assert generators_of(DataLoader(range(4), sampler=sampler, generator=two)) == [two, one]
    assert generators_of(DataLoader(range(4), batch_sampler=BatchSampler(sampler, 2, False), generator=one)) == [one]
    assert generators_of(DataLoader(range(4), shuffle=True, generator=two)) == [two]
    # Also what is dealt to ranks.
    for loader in (
        DataLoader(range(4), sampler=sampler),
        DataLoader(range(4), batch_sampler=BatchesOfOne(sampler, 1, False)),
        DataLoader(range(4), batch_sampler=BatchesOfOne(FirstItems(sampler, 3), 1, False)),
    ):
        assert generators_of(shard(loader, 0, 2, training=True)) == [one]


class BatchesOfOne(BatchSampler):
    pass


def test_a_rank_that_was_not_there_goes_on_with_random_numbers_of_its_own() -> None:
    began = {"global": rng_state(), "own": []}
    position = {"began": began, "given": 2}
    places = [moved(position, 0, 2, new=new) for new in (None, 2, 4)]
    assert [each["saved_by"] for each in places] == [[0, 2]] * 3
    states = [each["began"]["global"] for each in places]
    assert same_rng_state(states[0], began["global"])
    assert not any(same_rng_state(one, other) for one, other in combinations(states, 2))
    assert same_rng_state(rng_state(), began["global"]), "nothing is drawn"
    # A place that nothing was taken from since stays that of who had it.
    assert moved(places[0], 1, 3, new=None)["saved_by"] == [0, 2]
