"""What a Trainer is doing, under the names of Lightning: ``trainer.state``."""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from types import FrameType
from typing import TYPE_CHECKING, Literal

from trainkit.reflection import is_ours
from trainkit.types import Phase, Stage

if TYPE_CHECKING:
    from trainkit.trainer.call import Call

Status = Literal["initializing", "running", "finished", "interrupted"]


@dataclass(slots=True)
class TrainerState:
    """What a Trainer is doing. The names are Lightning's: ``fn`` is what trainkit calls a stage, ``stage`` a phase.

    Attributes:
        status: How far the newest call has come.
        fn: What it is or was: fit, validate, test or predict.
        sanity_check_matters: Whether the user's code has asked in the sanity check if it is one: it may log less.
    """

    status: Status = "initializing"
    fn: Stage | None = None
    sanity_check_matters: bool = field(default=False, init=False, repr=False, compare=False)
    _call: Call | None = field(default=None, repr=False, compare=False)

    @property
    def stage(self) -> Phase | None:
        """What is running right now, which within a fit may be training, validation or the sanity check."""
        self.is_sanity_check(asks=sys._getframe(1))
        return None if self._call is None else self._call.phase

    def is_sanity_check(self, asks: FrameType) -> bool:
        """Whether the sanity check is running; that the user's code ``asks`` is noted."""
        is_running = self._call is not None and self._call.phase is Phase.SANITY_CHECK
        self.sanity_check_matters = self.sanity_check_matters or (is_running and not is_ours(asks))
        return is_running

    @property
    def finished(self) -> bool:
        """Whether the last call ended without an exception."""
        return self.status == "finished"

    @property
    def stopped(self) -> bool:
        """Whether no call is running, because it ended in whatever way."""
        return self.status in ("finished", "interrupted")
