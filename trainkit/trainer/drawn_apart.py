"""Random numbers that differ between ranks, so that each draws masks of Dropout and augmentations of its own."""

from __future__ import annotations

from trainkit.seed import move_rng, rng_checksums, rng_state, set_rng_state
from trainkit.strategies.base import Strategy


def draw_apart(strategy: Strategy) -> None:
    """Let ranks whose generators have the same state go on with other numbers. Every rank has to come here.

    After ``seed_everything`` they all would draw the same: a global batch would have the noise of a rank's part of it.
    Rank 0 goes on as one process would. Where the others go follows from the seed and the rank, so that a run can be
    repeated. Generators that differ already, because nobody has seeded them, stay as they are.
    """
    if not strategy.is_distributed:
        return
    if strategy.data_world_size < strategy.world_size:
        # Ranks that compute a batch together draw the same masks for it.
        set_rng_state(strategy.one_of_each_data(strategy.all_gather_object(rng_state()))[strategy.data_rank])
    own = rng_checksums()
    earlier = strategy.one_of_each_data(strategy.all_gather_object(own))[: strategy.data_rank]
    move_rng([name for name in own if any(other[name] == own[name] for other in earlier)], strategy.data_rank)
