"""What a run does between two batches, as all ranks agree on it: leave for a signal, stop, validate by the clock."""

from __future__ import annotations

from collections.abc import Mapping
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
        times: The time by clocks that have come to something, by the name of each.
    """

    signal: int = 0
    stop: bool = False
    stop_by: str = ""
    time_up: bool = False
    validate: bool = False
    times: Mapping[str, float] = {}

    def joined(self, other: Wishes) -> Wishes:
        """Return what either asks for."""
        joined: list[Any] = [mine or theirs for mine, theirs in zip(self, other, strict=True)]
        names = {**self.times, **other.times}
        latest = {name: max(each.get(name, 0.0) for each in (self.times, other.times)) for name in names}
        return Wishes(*joined)._replace(times=latest)

    def has_news(self, agreed: Wishes) -> bool:
        """Whether it asks for anything that is not ``agreed`` on."""
        flags = any(mine and not theirs for mine, theirs in zip(self[:-1], agreed[:-1], strict=True))
        return flags or not self.times.keys() <= agreed.times.keys()


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

    def settle(
        self, *, time_up: bool = False, validate: bool = False, clocks: Mapping[str, float] | None = None
    ) -> Wishes:
        """Return what holds here, outside of an evaluation. All ranks have to call this equally often.

        Args:
            time_up: Whether the time is over by the clock of this rank.
            validate: Whether it is time for a validation by that clock.
            clocks: The time by clocks of this rank that have come to something.
        """
        asked = self._stop_signal
        own = Wishes(asked.received, asked.asked, asked.asked_by, time_up, validate, clocks or {})
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

    def time_of(self, clock: str, now_s: float | None) -> float | None:
        """Return the time on which all ranks agree, where ``clock`` has come to something on any of them; else None.

        All ranks have to ask, equally often; they get the same answer at the same batch, and once.

        Args:
            clock: The name of the clock.
            now_s: The time by this rank, if by that it has come to something.
        """
        if self._meeting is None:
            return now_s
        agreed = self.settle(clocks={} if now_s is None else {clock: now_s}).times
        found = agreed.get(clock)
        if found is not None:
            self._agreed = self._agreed._replace(times={name: at for name, at in agreed.items() if name != clock})
        return found

    def validated(self) -> None:
        """What was asked for by the clock is done."""
        self._agreed = self._agreed._replace(validate=False)

    def _come(self, position: tuple[int, ...], own: Wishes, *, is_end: bool = False) -> tuple[int, ...]:
        """Meet the others if anybody asks for something; return where all have met, or nothing."""
        assert self._meeting is not None, "there are other ranks"
        agreed = self._agreed
        # Who asked, and for what, may differ. That somebody did is all that has to be agreed on, and once.
        if not (own.has_news(agreed) or self._meeting.called):
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
