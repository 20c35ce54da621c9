"""Several loaders iterated as one."""

from trainkit.data.combined import CombinedLoader

__all__ = ["CombinedLoader"]
