"""Profilers, as far as a Trainer and the user's own code use them."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

import torch


class Profiler:
    """Marks actions of the user's own: ``with self.profiler.profile("augment"): ...``; torch's profiler shows them.

    Args:
        dirpath: Accepted: nothing is written.
        filename: Accepted: nothing is written.
    """

    def __init__(self, dirpath: str | os.PathLike[str] | None = None, filename: str | None = None) -> None:
        self.dirpath = dirpath
        self.filename = filename

    @contextmanager
    def profile(self, action_name: str) -> Iterator[str]:
        """Mark what runs inside."""
        with torch.profiler.record_function(action_name):
            yield action_name


class PassThroughProfiler(Profiler):
    """Asks the Trainer for no profile."""


class SimpleProfiler(Profiler):
    """Asks the Trainer for what ``profiler="simple"`` prints: seconds per plugin and hook.

    Args:
        dirpath: Accepted: the table is printed.
        filename: Accepted: the table is printed.
        extended: Accepted: there is one table.
    """

    def __init__(
        self, dirpath: str | os.PathLike[str] | None = None, filename: str | None = None, extended: bool = True
    ) -> None:
        super().__init__(dirpath, filename)
