"""Where a loop stands when a signal arrives: whether it waits for a batch, and whether it may be left right there.

A wait for data lies between two batches, but not all of it is free of bookkeeping. So the frames between the loop and
what runs are looked at, which costs a step nothing: this is done only after a signal.
"""

from __future__ import annotations

import enum
from collections.abc import Iterable, Iterator
from types import FrameType, TracebackType

LOOPS = {"trainkit.loops.fit.train_epoch", "trainkit.loops.evaluate.evaluate"}

_ITERATOR = "torch.utils.data.dataloader._MultiProcessingDataLoaderIter"
IDLE = f"{_ITERATOR}._try_get_data"
"""Torch waits in it for what a worker has made. Nothing is counted or drawn there."""

WAYS_TO_IDLE = {
    f"{_ITERATOR}._get_data",
    f"{_ITERATOR}._next_data",
    "torch.utils.data.dataloader._BaseDataLoaderIter.__next__",
    "trainkit.data.wait_meter.WaitMeter._measured",
    "trainkit.profilers.sampled_steps.SampledSteps._measured",
    "trainkit.profilers.sampled_steps.SampledSteps._left_alone",
    "trainkit.data.loaders.LimitedLoader._ending",
    "trainkit.data.loaders.LimitedLoader._looking_ahead",
}
"""What may stand between a loop and `IDLE` without having changed anything for the batch that is to come."""

BEGINNINGS = {
    "trainkit.data.fit_loaders.FitLoaders.start_epoch",
    "trainkit.data.loaders.LimitedLoader.batches",
    "trainkit.data.loaders.LimitedLoader._counted_from",
    "trainkit.data.resume.cursor.Cursor.__iter__",
}
"""They begin a pass, or find the place of one that continues. In the midst of that there is no position to save."""

FETCHING = ("trainkit.data.", "trainkit.profilers.sampled_steps.", "torch.utils.data.")
"""The modules whose code a loop calls itself only to get a batch; `BEGINNINGS` apart."""


class Place(enum.Enum):
    """Where a loop stands.

    Attributes:
        ELSEWHERE: Not in a loop, within a batch, or in hooks.
        FETCHING: A batch is being made in this process, or handed on by code that may keep a position of its own.
        IDLE: It waits for workers, and all is as it was after the batch before.
    """

    ELSEWHERE = enum.auto()
    FETCHING = enum.auto()
    IDLE = enum.auto()


def place_of(frame: FrameType | None) -> Place:
    """Return where the loop stands that ``frame`` runs in."""
    return _place(_names(_outwards(frame)))


def place_of_error(error: BaseException) -> Place:
    """Return where the loop stood that ``error`` has left."""
    return _place(_names(reversed(list(_inwards(error.__traceback__)))))


def _place(names: Iterable[str]) -> Place:
    """Return the place that the names of functions tell, the innermost one first."""
    beneath: list[str] = []
    for name in names:
        if name in LOOPS:
            break
        beneath.append(name)
    else:
        return Place.ELSEWHERE
    if not beneath or not beneath[-1].startswith(FETCHING) or not BEGINNINGS.isdisjoint(beneath):
        return Place.ELSEWHERE
    if IDLE in beneath and WAYS_TO_IDLE.issuperset(beneath[beneath.index(IDLE) + 1 :]):
        return Place.IDLE
    return Place.FETCHING


def _names(frames: Iterable[FrameType]) -> Iterator[str]:
    return (f"{frame.f_globals.get('__name__')}.{frame.f_code.co_qualname}" for frame in frames)


def _outwards(frame: FrameType | None) -> Iterator[FrameType]:
    while frame is not None:
        yield frame
        frame = frame.f_back


def _inwards(traceback: TracebackType | None) -> Iterator[FrameType]:
    while traceback is not None:
        yield traceback.tb_frame
        traceback = traceback.tb_next
