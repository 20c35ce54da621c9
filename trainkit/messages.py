"""What a run tells its user in one line, such as from where it goes on. Rank 0 calls it."""

from __future__ import annotations

import sys
from contextlib import suppress


def tell(message: str) -> None:
    """Print one line on stderr, where it is seen beside a progress bar and is no part of a program's output."""
    # A stream that was closed, or is on a full disk, is no reason to end a run.
    with suppress(OSError, ValueError):
        print(f"trainkit: {message}", file=sys.stderr, flush=True)
