"""A callback that counts batches."""

from __future__ import annotations

from typing import Any


class Tally:
    """Counts training batches, also over a resumed run.

    Args:
        stop_after: Fails at this batch, if one is given.
    """

    stage = "observe"

    def __init__(self, stop_after: int | None = None) -> None:
        self.stop_after = stop_after
        self.batches = 0

    def on_train_batch_end(self, batch_idx: int) -> None:
        self.batches += 1
        if self.batches == self.stop_after:
            raise RuntimeError(f"enough after batch {batch_idx}")

    def state_dict(self) -> dict[str, Any]:
        return {"batches": self.batches}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.batches = state["batches"]
