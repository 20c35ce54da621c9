"""One loader as a loop sees it: numbered batches, up to a limit, of which the last is known to be the last."""

from __future__ import annotations

import warnings
from collections import deque
from collections.abc import Iterable, Iterator
from copy import copy
from itertools import chain, islice, repeat
from typing import Any

from trainkit.checks import share
from trainkit.data.combined import CombinedLoader, batches_of, is_sliceable
from trainkit.data.counter import Tally
from trainkit.data.dataloader_copy import is_map_style, samplers_of
from trainkit.data.resume.cursor import Cursor
from trainkit.data.resume.cursors import StatefulCursor, are_replayed_together, make_cursor
from trainkit.data.sampler import is_shard
from trainkit.data.wait_meter import WaitMeter
from trainkit.errors import CheckpointError, DataError
from trainkit.seed import RandomStream, isolate_rng, rng_state, set_rng_state
from trainkit.types import Batch


def length_of(loader: Any) -> int | None:
    """Return how many batches ``loader`` has, or None if it does not know."""
    try:
        return len(loader)
    except (TypeError, NotImplementedError):
        return None


class LimitedLoader:
    """A loader, cut off at a limit.

    Args:
        loader: Any iterable of batches.
        limit: An int is a number of batches, a float a share of them (``int(length * limit)``); 0 is none.
        name: What errors call it, such as ``"train_dataloader"``.
        argument: What errors call the limit, such as ``"limit_train_batches"``.
        meter: Measures how long batches are waited for, if anything does.

    Attributes:
        num_batches: How many batches there are at most; None if neither the loader nor the limit tells.

    Raises:
        DataError: If the loader is empty, a share of an unknown length is asked for, or a share gives no batch.
    """

    def __init__(
        self,
        loader: Any,
        limit: int | float = 1.0,
        name: str = "dataloader",
        argument: str = "limit",
        meter: WaitMeter | None = None,
    ) -> None:
        self.loader = loader
        self.name = name
        self._meter = meter
        self._length = length_of(loader)
        if self._length == 0 and limit != 0 and not is_shard(loader):
            raise DataError(
                f"{name} is empty: its length is 0.\n"
                "    to do        look at the dataset; with drop_last=True, at a batch size larger than the dataset"
            )
        self.num_batches = _count(self._length, limit, name, argument)
        self._source = loader.map(self._cursor) if isinstance(loader, CombinedLoader) else self._cursor(loader)
        self._cursors: list[Cursor] = (
            self._source.flattened if isinstance(self._source, CombinedLoader) else [self._source]
        )
        self._stream: RandomStream | None = None
        self._epoch = 0
        self._stream_at_ahead: RandomStream | None = None  # where it was before the batch that is loaded ahead
        self._restored_stream: dict[str, Any] | None = None
        self._ahead = 0
        self._tally = Tally()
        self._ended = self._restored_end = False
        self._began: dict[str, Any] | None = None
        self._restored_pass: dict[str, Any] | None = None
        self._restored: dict[str, Any] | None = None  # until a pass goes on from there
        self._passes = 0
        self._warned = False

    def batches(self, start: int = 0) -> Iterator[tuple[int, Batch, bool]]:
        """Iterate over ``(batch_idx, batch, is_last)``, anew at every call.

        Only a loader that does not know its length is asked for one batch ahead. One that ends before its promised
        length gives no batch that is marked as the last, and a warning.

        Args:
            start: The index of the first batch. What comes before it was consumed: after `load_state_dict` the loader
                finds that place exactly, otherwise batches are loaded and thrown away.

        Raises:
            DataError: If a loader without length gives no batch at all.
        """
        self._ended, self._restored = False, None
        ended, self._restored_end = self._restored_end, False
        if ended or (self.num_batches is not None and start >= self.num_batches and not self._drains):
            self._restored_stream = self._restored_pass = None
            for cursor in self._cursors:
                cursor.forget()
            return iter(())
        return self._looking_ahead(start) if self._length is None else self._counting(start, self.num_batches or 0)

    def state_dict(self, consumed: int | None = None) -> dict[str, Any]:
        """Return the position behind the first ``consumed`` batches, by default behind all that were given out.

        One more than that may have been given out: it is under way, and a run that continues begins with it.
        """
        if self._restored is not None:
            return self._restored
        under_way = int(consumed is not None and self.is_under_way(consumed))
        stream = self._stream_at_ahead if self._ahead else self._stream
        return {
            "cursors": [
                cursor.state_dict(self._ahead + (0 if isinstance(cursor, StatefulCursor) else under_way))
                for cursor in self._cursors
            ],
            "stream": None if stream is None else stream.state,
            "ended": self._ended and not under_way,
            "began": self._began,
        }

    def is_under_way(self, consumed: int) -> bool:
        """Whether a loop was given one more batch than those it has ``consumed``."""
        return self._tally.passed - self._ahead > consumed

    def load_state_dict(self, state: dict[str, Any], *, mid_epoch: bool) -> None:
        """Let the next call of `batches` go on where ``state`` says.

        Args:
            state: What `state_dict` gave.
            mid_epoch: Whether batches of that epoch are still to come; otherwise a new one begins.

        Raises:
            CheckpointError: If the loader is another one than that of the checkpoint.
        """
        if len(state["cursors"]) != len(self._cursors):
            raise CheckpointError(
                f"{self.name} consists of {len(self._cursors)} loaders, and that of the run that is to be continued of "
                f"{len(state['cursors'])}. Resume with the same loaders."
            )
        for cursor, saved in zip(self._cursors, state["cursors"], strict=True):
            cursor.load_state_dict(saved, mid_epoch=mid_epoch)
        self._restored = state if mid_epoch else None
        self._restored_stream = state["stream"] if mid_epoch else None
        self._restored_end = mid_epoch and state.get("ended", False)
        self._restored_pass = state if mid_epoch and state.get("began") else None

    def close(self) -> None:
        """End worker processes that outlive a pass."""
        for cursor in self._cursors:
            cursor.close()

    def set_epoch(self, epoch: int) -> None:
        """Tell samplers that shuffle by epoch (those with a ``set_epoch`` method) which epoch comes."""
        self._epoch = epoch
        for cursor in self._cursors:
            cursor.epoch = epoch
            _set_epoch(cursor.loader, epoch)

    def _counting(self, start: int, count: int) -> Iterator[tuple[int, Batch, bool]]:
        batches = self._counted_from(start)
        # Nothing is to be decided before the last batch, so no line of Python runs for each of the others.
        return chain(zip(range(start, count - 1), batches, repeat(False)), self._ending(batches, count))

    def _ending(self, batches: Iterator[Batch], count: int) -> Iterator[tuple[int, Batch, bool]]:
        if self._tally.passed >= count - 1:
            for batch in batches:
                if self._tally.passed > count:
                    return
                yield count - 1, batch, True
                if not self._drains:
                    return
        if self._tally.passed < count and not self._warned:
            self._warned = True
            warnings.warn(
                f"{self.name} has a length of {self._length} and ended after {self._tally.passed} batches; "
                "let len() tell the truth, or leave it out.",
                stacklevel=2,
            )

    def _looking_ahead(self, start: int) -> Iterator[tuple[int, Batch, bool]]:
        # What is loaded ahead draws from a stream of its own, or it would draw ahead of the step before it.
        self._ahead = 0
        nothing = object()
        batches = self._counted_from(start)
        restored, self._restored_stream = self._restored_stream, None
        self._stream = RandomStream.branch(self._epoch) if restored is None else RandomStream(restored)
        with self._stream.active():
            upcoming = next(batches, nothing)
        if upcoming is nothing and start == 0:
            raise DataError(self._why_nothing_came())
        batch_idx = start
        while upcoming is not nothing:
            batch = upcoming
            if batch_idx + 1 == self.num_batches:
                self._ahead = 0
                yield batch_idx, batch, True
                return
            self._stream_at_ahead = copy(self._stream)
            for cursor in self._cursors:
                cursor.mark()
            with self._stream.active():
                upcoming = next(batches, nothing)
            self._ahead, self._ended = int(upcoming is not nothing), upcoming is nothing
            yield batch_idx, batch, upcoming is nothing
            batch_idx += 1

    @property
    def _drains(self) -> bool:
        """Whether to let the loader run into its end.

        A sampler with a generator of its own draws from it once more at its end, as it does in a plain ``for`` loop.
        What has no sampler may be a stream, which would lose a batch.
        """
        return self.num_batches == self._length and is_map_style(self.loader)

    def _counted_from(self, start: int) -> Iterator[Batch]:
        self._tally.set(start)
        batches = self._from(start)
        return self._tally.of(batches if self._meter is None else self._meter.of(batches, self.loader))

    def _from(self, start: int) -> Iterable[Batch]:
        """Return the batches from ``start`` on."""
        self._passes += 1
        if is_sliceable(self.loader):
            return self.loader[start:] if start else self.loader
        restored_pass, self._restored_pass = self._restored_pass, None
        if restored_pass is not None:
            return self._replayed_together(restored_pass, start)
        batches = batches_of(self._source)
        if any(cursor.restored for cursor in self._cursors):
            return batches
        for cursor in self._cursors:
            cursor.rewind()
        if are_replayed_together(self._cursors):
            self._began = {"global": rng_state(), "own": [cursor.own_generators() for cursor in self._cursors]}
        return islice(batches, start, None)

    def _replayed_together(self, state: dict[str, Any], start: int) -> Iterator[Batch]:
        """Go on where several loaders stood that draw in turn from the same generators: all begin anew."""
        self._began = began = state["began"]
        with isolate_rng():
            set_rng_state(began["global"])
            for cursor, own in zip(self._cursors, began["own"], strict=True):
                cursor.forget()
                cursor.set_own_generators(own)
            batches = iter(batches_of(self._source))
            deque(islice(batches, start), maxlen=0)
        for cursor, saved in zip(self._cursors, state["cursors"], strict=True):
            cursor.set_own_generators(saved["own"])
        return batches

    def _cursor(self, loader: Any) -> Cursor:
        return make_cursor(loader, self.name)

    def _why_nothing_came(self) -> str:
        if self._passes > 1 and iter(self.loader) is self.loader:
            return (
                f"{self.name} is used up: a {type(self.loader).__name__} can be iterated over only once.\n"
                "    to do        pass what starts anew at every iter(): a list, a DataLoader, an IterableDataset"
            )
        return f"{self.name} gave no batches."


def _count(length: int | None, limit: int | float, name: str, argument: str) -> int | None:
    share("", argument, limit, error=DataError)
    if isinstance(limit, int):
        return limit if length is None else min(limit, length)
    if length is None:
        if 0.0 < limit < 1.0:
            raise DataError(
                f"{argument}={limit!r} is a share of {name}, which does not know its length.\n"
                "    to do        give a number of batches (int), or 1.0 for all"
            )
        return None if limit else 0
    count = int(length * limit)
    if count == 0 and length and limit:
        raise DataError(
            f"{argument}={limit!r} gives no batch: {name} has {length}.\n"
            f"    to do        give at least {1 / length:.3g}, or a number of batches (int)"
        )
    return count


def _set_epoch(loader: Any, epoch: int) -> None:
    if isinstance(loader, CombinedLoader):
        for inner in loader.flattened:
            _set_epoch(inner, epoch)
        return
    for part in (loader, *samplers_of(loader)):
        set_epoch = getattr(part, "set_epoch", None)
        if callable(set_epoch):
            set_epoch(epoch)
