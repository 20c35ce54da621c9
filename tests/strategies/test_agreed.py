from __future__ import annotations

from typing import Any

import pytest

from trainkit.errors import MetricError
from trainkit.strategies import SingleDevice


class Line:
    """What rank 0 sends over it, every other rank hears."""

    def __init__(self) -> None:
        self.sent: Any = None

    def strategy(self, rank: int) -> SingleDevice:
        line = self

        class OnTheLine(SingleDevice):
            def broadcast_object(self, value: Any, source: int = 0) -> Any:
                line.sent = value if self.rank == source else line.sent
                return line.sent

        strategy = OnTheLine()
        strategy.rank = rank
        return strategy


def test_every_rank_has_the_answer_of_rank_zero() -> None:
    line = Line()
    assert [line.strategy(rank).agreed(lambda rank=rank: f"from {rank}") for rank in (0, 1)] == ["from 0", "from 0"]


def test_an_error_of_rank_zero_is_raised_on_every_rank() -> None:
    line = Line()

    def decide() -> None:
        raise MetricError("no such metric")

    for rank in (0, 1):
        with pytest.raises(MetricError, match="no such metric"):
            line.strategy(rank).agreed(decide)
