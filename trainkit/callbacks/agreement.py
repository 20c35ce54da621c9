"""Decisions that all ranks have to share, although one of them makes them."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

from trainkit.errors import TrainkitError

if TYPE_CHECKING:
    from trainkit.trainer import Trainer

T = TypeVar("T")


def agreed(trainer: Trainer, decide: Callable[[], T]) -> T:
    """Let rank 0 decide, and return its answer on every rank; all of them must ask.

    A `TrainkitError` that it raises is raised on every rank, so that none is left waiting.
    """
    decided: Any = None
    if trainer.is_global_zero:
        try:
            decided = decide()
        except TrainkitError as error:
            decided = error
    answer: T | TrainkitError = trainer.strategy.broadcast_object(decided)
    if isinstance(answer, TrainkitError):
        raise answer
    return answer
