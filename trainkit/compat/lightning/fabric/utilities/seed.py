"""Random numbers."""

from trainkit.compat.lightning.utilities.seed import isolate_rng, seed_everything

__all__ = ["isolate_rng", "seed_everything"]
