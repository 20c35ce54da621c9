"""Random numbers."""

from __future__ import annotations

from trainkit import seed as core
from trainkit.seed import isolate_rng

__all__ = ["isolate_rng", "seed_everything"]


def seed_everything(seed: int | None = None, workers: bool = False, verbose: bool = True) -> int:
    """Seed all generators; None is 0. ``verbose`` is accepted: nothing is printed."""
    return core.seed_everything(0 if seed is None else seed, workers)
