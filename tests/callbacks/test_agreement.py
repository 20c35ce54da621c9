from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from trainkit.callbacks.agreement import agreed
from trainkit.errors import MetricError


class Line:
    """What rank 0 sends over it, every other rank hears."""

    def __init__(self) -> None:
        self.sent: Any = None

    def trainer(self, rank: int) -> Any:
        def broadcast_object(value: Any) -> Any:
            self.sent = value if rank == 0 else self.sent
            return self.sent

        return SimpleNamespace(is_global_zero=rank == 0, strategy=SimpleNamespace(broadcast_object=broadcast_object))


def test_every_rank_has_the_answer_of_rank_zero() -> None:
    line = Line()
    assert [agreed(line.trainer(rank), lambda rank=rank: f"from {rank}") for rank in (0, 1)] == ["from 0", "from 0"]


def test_an_error_of_rank_zero_is_raised_on_every_rank() -> None:
    line = Line()

    def decide() -> None:
        raise MetricError("no such metric")

    for rank in (0, 1):
        with pytest.raises(MetricError, match="no such metric"):
            agreed(line.trainer(rank), decide)
