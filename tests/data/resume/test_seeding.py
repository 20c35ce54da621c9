from __future__ import annotations

import pickle
import random
from typing import Any

import numpy as np
import pytest
import torch

from trainkit.data.resume.seeding import SeededIndex, SeededIndices, epoch_seed
from trainkit.seed import isolate_rng

STATE = torch.Generator().manual_seed(3).get_state()


def drawn() -> tuple[float, float, float]:
    return torch.rand(()).item(), float(np.random.rand()), random.random()


def drawn_where_it_arrives(sent: Any) -> tuple[Any, tuple[float, float, float]]:
    """Send something as a queue to a worker does, and return what arrived and which numbers come next there."""
    content = pickle.dumps(sent)
    with isolate_rng():
        torch.manual_seed(random.getrandbits(20))
        random.seed(torch.randint(99, ()).item())
        arrived = pickle.loads(content)
        return arrived, drawn()


def test_a_seed_belongs_to_the_state_and_the_epoch_and_draws_nothing() -> None:
    before = torch.get_rng_state()
    seeds = [epoch_seed(STATE, epoch) for epoch in range(3)]
    assert len({*seeds, epoch_seed(torch.Generator().manual_seed(4).get_state(), 0)}) == 4
    assert seeds == [epoch_seed(STATE.clone(), epoch) for epoch in range(3)]
    assert all(0 <= seed < 2**64 for seed in seeds)
    assert torch.equal(torch.get_rng_state(), before)


def test_a_seed_is_the_same_on_every_machine() -> None:
    assert epoch_seed(torch.arange(4, dtype=torch.uint8), 1) == 12843196991374979284


@pytest.mark.parametrize(
    ("first", "other"),
    [
        (SeededIndices([4, 5], 7, 0), SeededIndices([4, 5], 7, 1)),
        (SeededIndex.of(4, 7, 0), SeededIndex.of(4, 7, 1)),
    ],
    ids=["a batch", "one index"],
)
def test_what_is_drawn_for_a_batch_depends_on_the_batch_and_nothing_else(first: Any, other: Any) -> None:
    arrived, numbers = drawn_where_it_arrives(first)
    assert arrived == first
    assert type(arrived) in (list, int), "whoever gets them sees plain indices"
    again, same_numbers = drawn_where_it_arrives(first)
    assert (again, same_numbers) == (arrived, numbers)
    _, other_numbers = drawn_where_it_arrives(other)
    assert not set(numbers) & set(other_numbers)


def test_batches_that_follow_each_other_across_epochs_have_seeds_of_their_own() -> None:
    seeds = [
        SeededIndices([], epoch_seed(STATE, epoch), batch_idx).seed for epoch in range(2) for batch_idx in range(9)
    ]
    assert len(set(seeds)) == 18


def test_a_seed_does_not_outgrow_what_generators_take() -> None:
    _, numbers = drawn_where_it_arrives(SeededIndices([1], 2**64 - 1, 3))
    assert SeededIndices([1], 2**64 - 1, 3).seed == 2
    assert numbers == drawn_where_it_arrives(SeededIndices([1], 0, 2))[1]


def test_until_it_is_sent_nothing_is_seeded_and_indices_are_what_they_were() -> None:
    before = torch.get_rng_state()
    indices, index = SeededIndices([3, "name"], 7, 0), SeededIndex.of(3, 7, 0)
    assert (indices, index) == ([3, "name"], 3)
    assert range(5)[index] == 3
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("key", ["name", ("a", 1), True, None])
def test_a_key_that_is_no_whole_number_is_left_alone(key: Any) -> None:
    assert SeededIndex.of(key, 7, 0) is key
