"""`Meter`: what measures how a loop comes by its batches."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Protocol

from trainkit.types import Batch


class Meter(Protocol):
    """Measures the passes of a loader."""

    def measure(self, batches: Iterable[Batch], loader: Any) -> Iterable[Batch]:
        """Return what gives the same batches, and measures.

        Args:
            batches: The batches of one pass.
            loader: The loader that gives them.
        """
