"""What a run does between two batches, as all ranks agree on it: leave for a signal, stop, validate by the clock."""

from __future__ import annotations

from typing import Any, NamedTuple

from trainkit.loops.stop import StopSignal
from trainkit.progress import Progress
from trainkit.strategies.base import Strategy


class Wishes(NamedTuple):
    """What is asked for.

    Attributes:
        signal: The signal that came; 0 if none did.
        stop: Whether somebody has asked for an end of training.
        stop_by: Who did.
        time_up: Whether the time to train is over.
        validate: Whether it is time for a validation.
    """

    signal: int = 0
    stop: bool = False
    stop_by: str = ""
    time_up: bool = False
    validate: bool = False

    def joined(self, other: Wishes) -> Wishes:
        """Return what either asks for."""
        joined: list[Any] = [mine or theirs for mine, theirs in zip(self, other, strict=True)]
        return Wishes(*joined)


class Agreement:
    """Lets a run follow the wishes of all ranks, each at the same batch everywhere; one process follows its own.

    Args:
        strategy: Tells of other ranks.
        progress: Where the run is.
        stop_signal: What this rank was asked for; learns what others were.
    """

    def __init__(self, strategy: Strategy, progress: Progress, stop_signal: StopSignal) -> None:
        self._meeting = strategy.ranks.meeting if strategy.is_distributed else None
        self._progress = progress
        self._stop_signal = stop_signal
        self._agreed = Wishes()
        self._place = (-1, 0)  # training batches, and how often ranks could agree behind them

    @property
    def is_called(self) -> bool:
        """Whether another rank asks for something, so that each boundary between two batches is to be looked at."""
        return self._meeting is not None and self._meeting.called

    def settle(self, *, time_up: bool = False, validate: bool = False) -> Wishes:
        """Return what holds here, outside of an evaluation. All ranks have to call this equally often.

        Args:
            time_up: Whether the time is over by the clock of this rank.
            validate: Whether it is time for a validation by that clock.
        """
        asked = self._stop_signal
        own = Wishes(asked.received, asked.asked, asked.asked_by, time_up, validate)
        if self._meeting is None:
            return own
        batches, times = self._place
        times = times + 1 if batches == self._progress.total_batches else 1
        self._place = (self._progress.total_batches, times)
        self._come(self._place, own)
        return self._agreed

    def settle_in_evaluation(self, dataloader_idx: int, *, is_end: bool = False) -> Wishes:
        """Return what holds behind a batch of an evaluation, of which ranks may have different numbers.

        Args:
            dataloader_idx: Of the loader that is evaluated.
            is_end: Whether this rank has no other batch in that loader.
        """
        progress = self._progress
        own = Wishes(self._stop_signal.received)
        if self._meeting is None:
            return own
        position = (*self._place, dataloader_idx + 1, progress.validation_batch)
        met_at = self._come(position, own, is_end=is_end)
        if self._agreed.signal and len(met_at) == len(position):
            # A rank that had fewer batches is behind them all, as the one whose counters are saved tells for all.
            progress.validation_loader, progress.validation_batch = dataloader_idx, met_at[-1]
        return self._agreed

    def validated(self) -> None:
        """What was asked for by the clock is done."""
        self._agreed = self._agreed._replace(validate=False)

    def _come(self, position: tuple[int, ...], own: Wishes, *, is_end: bool = False) -> tuple[int, ...]:
        """Meet the others if anybody asks for something; return where all have met, or nothing."""
        assert self._meeting is not None, "there are other ranks"
        agreed = self._agreed
        # Who asked, and for what, may differ. That somebody did is all that has to be agreed on, and once.
        is_news = any(mine and not theirs for mine, theirs in zip(own, agreed, strict=True))
        if not (is_news or self._meeting.called):
            return ()
        met = self._meeting.come(position, own._asdict(), is_end=is_end)
        if met is None:
            return ()
        for wishes in met.wishes:
            self._agreed = self._agreed.joined(Wishes(**wishes))
        self._stop_signal.received = self._agreed.signal
        if self._agreed.stop and not self._stop_signal.asked:
            self._stop_signal.ask(by=self._agreed.stop_by)
        return met.position
