"""Random numbers of several ranks after a seed."""

from __future__ import annotations

import random
from types import SimpleNamespace

import numpy as np
import torch

from trainkit import seed_everything
from trainkit.seed import isolate_rng, rng_checksums
from trainkit.trainer.drawn_apart import draw_apart


def drawn_on(rank, states):
    """What is drawn next on ``rank``, where the ranks come with the generators in ``states``."""
    strategy = SimpleNamespace(
        is_distributed=True,
        world_size=len(states),
        data_world_size=len(states),
        data_rank=rank,
        all_gather_object=lambda own: states,
        one_of_each_data=list,
    )
    draw_apart(strategy)
    return torch.rand(()).item(), random.random(), np.random.rand()


def test_ranks_with_one_seed_draw_other_numbers_and_the_same_in_each_run():
    with isolate_rng():
        runs = []
        for _ in range(2):
            drawn = []
            for rank in range(3):
                seed_everything(7)
                drawn.append(drawn_on(rank, [rng_checksums()] * 3))
            runs.append(drawn)
        seed_everything(7)
        alone = torch.rand(()).item(), random.random(), np.random.rand()
    assert runs[0] == runs[1]
    assert runs[0][0] == alone
    assert all(len({rank[kind] for rank in runs[0]}) == 3 for kind in range(3))


def test_a_generator_that_differs_already_is_left_as_it_is():
    with isolate_rng():
        seed_everything(7)
        own = rng_checksums()
        expected = torch.rand(()).item()
        seed_everything(7)
        drawn = drawn_on(1, [own | {"torch": 0}, own])
        seed_everything(7)
    assert drawn[0] == expected
    assert drawn[1] != random.random()
