"""Random numbers that all ranks draw alike, so that a split of the data that is drawn is the same split on each."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

from trainkit.seed import rng_state, same_rng_state, set_rng_state
from trainkit.strategies.base import Strategy


@contextmanager
def drawn_alike(strategy: Strategy, first: dict[str, Any] | None = None) -> Iterator[None]:
    """Draw inside from the random numbers of rank 0, on every rank.

    Afterwards each rank goes on with its own, so that masks of Dropout differ; or, if it was seeded inside, from there.

    Args:
        strategy: Which ranks there are.
        first: What `states_of_first` has returned. By default it is asked now, and every rank has to come here.
    """
    if not strategy.is_distributed:
        yield
        return
    own = rng_state()
    first = first or states_of_first(strategy)
    if same_rng_state(own, first):
        yield
        return
    set_rng_state(first)
    seed = torch.initial_seed()
    yield
    if torch.initial_seed() == seed:
        set_rng_state(own)


def states_of_first(strategy: Strategy) -> dict[str, Any]:
    """Return the states of rank 0's generators, as they are now. Every rank has to come here."""
    own = rng_state()
    # Those of devices are left alone: a split is drawn on the CPU.
    states: dict[str, Any] = strategy.broadcast_object({name: own[name] for name in ("torch", "random", "numpy")})
    return states
