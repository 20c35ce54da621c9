"""Doing something on rank 0 only."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from trainkit.compat.lightning import rank_zero as core
from trainkit.compat.lightning.rank_zero import rank_zero_debug, rank_zero_deprecation, rank_zero_info, rank_zero_warn

__all__ = ["rank_zero_debug", "rank_zero_deprecation", "rank_zero_info", "rank_zero_only", "rank_zero_warn"]


class _RankZeroOnly:
    """trainkit's ``rank_zero_only``, which also tells the rank."""

    @property
    def rank(self) -> int:
        """The number of this process."""
        return core.rank()

    def __call__(self, function: Callable[..., Any], default: Any = None) -> Callable[..., Any]:
        return core.rank_zero_only(function, default)


rank_zero_only = _RankZeroOnly()
