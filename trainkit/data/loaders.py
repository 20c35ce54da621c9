"""One loader as a loop sees it: numbered batches, up to a limit, of which the last is known to be the last.

Two things are decided here: how many batches there are, and whether one is loaded ahead of its turn (only where the
length is not known). Where a pass begins, also one that continues, is in ``batch_source.py``.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import nullcontext
from itertools import chain, repeat
from typing import Any

from trainkit.checks import share
from trainkit.data.batch_source import BatchSource
from trainkit.data.counter import ItemCounter
from trainkit.data.dataloader_copy import is_map_style
from trainkit.data.global_batches import sampler_of
from trainkit.data.meter import Meter
from trainkit.data.resume.other_data import Resume
from trainkit.data.sampler import (
    has_equal_parts,
    is_part_for_evaluation,
    largest_part,
    num_parts,
    own_part,
    whole_length,
)
from trainkit.errors import DataError
from trainkit.output import warn
from trainkit.seed import RandomStream, States, storable
from trainkit.types import Batch


def length_of(loader: Any) -> int | None:
    """Return how many batches ``loader`` has, or None if it does not know."""
    try:
        return len(loader)
    # TypeError: no __len__, as of a DataLoader over an iterable dataset. NotImplementedError: one that only says so.
    except (TypeError, NotImplementedError):
        return None


class LimitedLoader:
    """A loader that gives at most a number of batches, and knows its position.

    Args:
        loader: Any iterable of batches.
        limit: An int is a number of batches, a float a share of them (``int(length * limit)``); 0 is none.
        name: What errors call it, such as ``"train_dataloader"``.
        argument: What errors call the limit, such as ``"limit_train_batches"``.
        meters: What measures how long the loop waits for batches; read when a pass begins.

    Attributes:
        num_batches: How many batches there are at most; None if neither the loader nor the limit tells.
        has_equal_parts: Whether it was dealt to ranks such that all have equally many samples in each batch.
        weight_of_batch: ``(batch_idx) -> float``: what this rank's mean over a batch counts in that of all ranks; None
            in an epoch in which they have equal shares.
        ended_early: Whether the newest pass ended before its promised length, behind a batch that was not marked as
            the last.

    Raises:
        DataError: If the loader is empty, a share of an unknown length is asked for, or a share gives no batch.
    """

    def __init__(
        self,
        loader: Any,
        limit: int | float = 1.0,
        name: str = "dataloader",
        argument: str = "limit",
        meters: Sequence[Meter] = (),
    ) -> None:
        self.loader = loader
        self.name = name
        self._meters = meters
        self._limit, self._argument = limit, argument
        self._length = length_of(loader)
        # The part of one rank may be empty and that of another not: in evaluation, with fewer samples than ranks.
        if self._length == 0 and limit != 0 and largest_part(loader) == 0:
            parts, of = num_parts(loader), "the dataset"
            if parts > 1:
                name, of = f"the part of each of {parts} ranks of {name}", "such a part"
            raise DataError(
                f"{name} is empty: its length is 0.\n"
                f"    to do        look at the dataset; with drop_last=True, at a batch size larger than {of}"
            )
        self.has_equal_parts = has_equal_parts(loader)
        self.num_batches = self._count_batches()
        self._source = BatchSource(loader, name, knows_length=self._length is not None)
        self._dealt = sampler_of(loader)
        self.weight_of_batch: Callable[[int], float] | None = None
        self._epoch = 0
        self._given = ItemCounter()  # batches fetched from the loader in this pass
        self._ahead = 0  # how many of them the loop has not been given yet: 1 with a look-ahead batch, else 0
        self._ended = False  # whether a look ahead found the end, and the loader is not asked again
        self._stream: RandomStream | None = None  # what the look-ahead draws from
        # Where everything stood before each of the newest two batches was fetched by a look-ahead, by their indices;
        # None for a cursor of whose place the index tells all.
        self._before: deque[tuple[int, States, list[dict[str, Any]] | None]] = deque(maxlen=2)
        # What `load_state_dict` restored; each is dropped when the next pass has used it.
        self._restored: dict[str, Any] | None = None
        self._restored_end = False
        self._restored_stream: dict[str, Any] | None = None
        self.ended_early = False
        self._warned = self._has_looked = False

    def batches(self, start: int = 0) -> Iterator[tuple[int, Batch, bool]]:
        """Begin a pass and return an iterator over ``(batch_idx, batch, is_last)``.

        Only a loader that does not know its length is asked for one batch ahead. One that ends before its promised
        length marks no batch as the last, and warns. One whose sampler gives more is used to its end, and warns. Any
        other one that gives more ends at its length, since it may be endless, and warns where that can be seen.

        Args:
            start: The index of the first batch to give. The batches before it were consumed already: after
                `load_state_dict` the loader finds that place exactly, otherwise they are loaded and thrown away.

        Raises:
            DataError: If a loader without length gives no batch at all.
        """
        self._ended, self._restored, self.ended_early = False, None, False
        ended, self._restored_end = self._restored_end, False
        # Nothing is left of this epoch, so the loader is not touched, and the next pass is a new one. If the loader has
        # to be run into its end (see `_drains`), it is not over yet.
        if ended or (start >= self._furthest and not self._drains):
            self._restored_stream = None
            self._source.discard_restored()
            return iter(())
        # With a length, nothing is fetched ahead: without workers, samples draw random numbers in turn with training.
        return self._looking_ahead(start) if self._length is None else self._counting(start, self.num_batches or 0)

    def state_dict(self, consumed: int | None = None) -> dict[str, Any]:
        """Return the position after the first ``consumed`` batches, by default after all that the loop was given.

        The loop may have been given one more: that batch is under way, and a run that continues begins with it.
        """
        # No pass has begun since the position was restored, so it is still that.
        if self._restored is not None:
            return self._restored
        under_way = consumed is not None and self.is_under_way(consumed)
        stream = None if self._stream is None else self._stream.states
        cursors = None
        if self._ahead or under_way:
            upcoming = self._given.passed - self._ahead - under_way
            for batch_idx, stream_before, cursors_before in self._before:
                if batch_idx == upcoming:
                    stream, cursors = stream_before, cursors_before or [self._told_by_count(upcoming)]
        if cursors is None:
            cursors = [cursor.state_dict(int(under_way)) for cursor in self._source.cursors]
        return {
            "cursors": self._source.with_contents(cursors),
            "stream": None if stream is None else storable(stream),
            "ended": self._ended and not under_way,
            "began": self._source.rng_at_start,
        }

    def is_past_end(self, consumed: int) -> bool:
        """Whether nothing can come after ``consumed`` batches of a pass."""
        return consumed >= self._furthest

    def known_samples(self) -> int | None:
        """Return of how many samples the loop's batch was made; None if that is not known, 0 if of several loaders'."""
        return self._source.known_samples(self._ahead)

    def known_indices(self) -> list[Any] | None:
        """Return the samples' indices in the dataset of the loop's batch; None if that is not known."""
        return self._source.known_indices(self._ahead)

    def is_under_way(self, consumed: int) -> bool:
        """Whether the loop was given one more batch than the ``consumed`` ones, and has not finished it."""
        return self._given.passed - self._ahead > consumed

    def load_state_dict(self, state: dict[str, Any], *, mid_epoch: bool, resume: Resume = "exact") -> None:
        """Restore a position: the next call of `batches` continues there.

        Args:
            state: What `state_dict` returned.
            mid_epoch: Whether the next pass is the rest of that epoch; otherwise it is a new one.
            resume: What to do with a loader that is another one than that of the checkpoint: "exact" refuses it,
                otherwise the pass goes on at the same place in it. "next_epoch" leaves out the rest of the epoch, so
                that the next pass gives nothing and the one after it is a new one.

        Raises:
            CheckpointError: If the loader is another one, and ``resume`` is "exact".
        """
        self._restored_end = mid_epoch and resume == "next_epoch"
        mid_epoch = mid_epoch and resume != "next_epoch"
        if not self._source.load_state_dict(state, mid_epoch=mid_epoch, resume=resume):
            return
        self._restored = state if mid_epoch else None
        self._restored_stream = state["stream"] if mid_epoch else None
        # Older checkpoints have neither "ended" nor "began".
        self._restored_end |= mid_epoch and state.get("ended", False)

    def close(self) -> None:
        """End worker processes that outlive a pass."""
        self._source.close()

    def set_epoch(self, epoch: int) -> None:
        """Tell samplers that shuffle by epoch (those with a ``set_epoch`` method) which epoch comes."""
        self._epoch = epoch
        self._source.set_epoch(epoch)
        if self._dealt is not None:
            self.weight_of_batch = None if self._dealt.is_even else self._dealt.weight
        # A data set may grow from epoch to epoch.
        if self._length is not None:
            self._length = length_of(self.loader)
            self.num_batches = self._count_batches()

    def _count_batches(self) -> int | None:
        is_share = isinstance(self._limit, float) and self._limit < 1.0
        if not is_share or self._length is None or not is_part_for_evaluation(self.loader):
            return _count(self._length, self._limit, self.name, self._argument)
        # A share of the whole: parts may differ by a batch, and a share of one batch less may be none.
        count = _count(whole_length(self.loader), self._limit, self.name, self._argument)
        return min(own_part(self.loader, count or 0), self._length)

    def _counting(self, start: int, count: int) -> Iterator[tuple[int, Batch, bool]]:
        """Return the batches of a loader that knows its length: those with indices from ``start`` to ``count - 1``."""
        batches = self._counted_from(start)
        # Nothing is to be decided before the last batch, so no line of Python runs for each of the others. zip() asks
        # range() first: when that ends, no batch has been taken from the loader and lost.
        return chain(zip(range(start, count - 1), batches, repeat(False)), self._ending(batches, count))

    def _ending(self, batches: Iterator[Batch], count: int) -> Iterator[tuple[int, Batch, bool]]:
        """Give the last batch, and those beyond the promised length; warn if the loader has not as many as it says."""
        end = self._furthest
        was_last = self._given.passed >= end
        # Fewer have passed if the loader ended before its last batch: it is not asked again after its end.
        if self._given.passed >= count - 1:
            for batch in batches:
                given = self._given.passed
                if was_last:
                    # A limit that is a number of batches is meant, whatever comes after them.
                    if not isinstance(self._limit, int):
                        self._warn_of_length("gives more, which is left out")
                    return
                was_last = given >= end or not self._source.has_more()
                # Not where the data have grown since the epoch began: the length was true.
                if not was_last and length_of(self.loader) == self._length:
                    self._warn_of_length("gives more, which is used")
                # A run that continues here does not look for more: other loaders beside would run into their ends.
                self._ended = was_last and given < end and not self._drains
                yield given - 1, batch, was_last
                if was_last and (given == end > count or not self._drains):
                    if given == self._length == count:
                        self._tell_of_more()
                    return
        if self._given.passed < count:
            self.ended_early = self._given.passed > 0
            self._warn_of_length(f"ended after {self._given.passed} batches")

    def _tell_of_more(self) -> None:
        """Warn, once, if the loader goes on behind its length and that is not asked for by a number of batches."""
        if self._has_looked or isinstance(self._limit, int) or length_of(self.loader) != self._length:
            return
        self._has_looked = True
        if self._source.goes_on():
            self._warn_of_length("gives more, which is left out", f", or say {self._argument}={self._length}")

    def _warn_of_length(self, truth: str, instead: str = ", or leave it out") -> None:
        if not self._warned:
            self._warned = True
            told = f"{self.name} has a length of {self._length} and {truth}; let len() tell the truth{instead}."
            warn(told, of_rank=True)

    def _looking_ahead(self, start: int) -> Iterator[tuple[int, Batch, bool]]:
        """Give the batches of a loader without length, fetching one ahead: only its end tells which was the last."""
        self._ahead = 0
        self._before.clear()
        nothing = object()  # None may be a batch
        # The look-ahead batch is made before the step on the batch before it. From the generators that the step uses it
        # would take numbers ahead of that step, other ones than in a run that stops and continues in between.
        restored, self._restored_stream = self._restored_stream, None
        self._stream = RandomStream.branch(self._epoch) if restored is None else RandomStream.from_state(restored)
        # Several loaders are started when their first batch is asked for, and so draw from the stream all that they
        # draw; where they find their places together, they have to begin in it.
        with self._stream if self._source.is_combined else nullcontext():
            batches = self._counted_from(start)
        stream, before = self._stream, self._before
        before.append((start, stream.states, self._positions()))
        with stream:
            upcoming = next(batches, nothing)
        # A pass that continues may have nothing left; one that begins with nothing is a mistake.
        if upcoming is nothing and start == 0:
            raise DataError(self._source.why_nothing_came())
        # What is done for each batch is kept small: nothing is exchanged or recorded of which the loader makes no use.
        is_told_by_count = self._source.is_told_by_count
        aside = stream if self._source.may_draw else nullcontext()
        batch_idx = start
        while upcoming is not nothing:
            batch = upcoming
            if batch_idx + 1 == self.num_batches:  # the limit tells that this is the last: no need to look
                self._ahead = 0
                yield batch_idx, batch, True
                return
            # A checkpoint taken while the loop works on this batch must not count the next one as consumed.
            before.append((batch_idx + 1, stream.states, None if is_told_by_count else self._positions()))
            with aside:
                upcoming = next(batches, nothing)
            self._ahead, self._ended = int(upcoming is not nothing), upcoming is nothing
            yield batch_idx, batch, upcoming is nothing
            batch_idx += 1

    def _positions(self) -> list[dict[str, Any]]:
        return [cursor.state_dict() for cursor in self._source.cursors]

    def _told_by_count(self, given: int) -> dict[str, Any]:
        """Return the position behind ``given`` batches of a loader that is told by their count."""
        return {**self._source.cursors[0].state_dict(), "given": given, "has_ended": False}

    @property
    def _furthest(self) -> float:
        """The number of batches after which a pass ends, whatever the loader gives; above its length if that may lie.

        What cannot tell ahead whether it has more ends at its length: a stream may be endless.
        """
        if self.num_batches is None:
            return math.inf
        if self.num_batches != self._length:
            return self.num_batches
        if not self._source.may_have_more(self.num_batches):
            return self.num_batches
        return self._limit if isinstance(self._limit, int) else math.inf

    @property
    def _drains(self) -> bool:
        """Whether to ask the loader for one more batch after the last one, so that its iterator ends.

        A plain ``for`` loop does so. `RandomSampler` draws from its generator once more before it ends, and
        without that the next epoch would be shuffled differently. A loader without a sampler is not asked: it may be a
        stream, which would lose a batch.
        """
        return self.num_batches == self._length and is_map_style(self.loader)

    def _counted_from(self, start: int) -> Iterator[Batch]:
        """Begin a pass and return its batches from ``start`` on, counted and, if there is a meter, timed."""
        self._given.set(start)
        batches: Iterable[Batch] = self._source.begin(start)
        for meter in self._meters:
            batches = meter.measure(batches, self.loader)
        return self._given.wrap(batches)


def _count(length: int | None, limit: int | float, name: str, argument: str) -> int | None:
    """Return how many batches a limit allows; None if there is no limit and no length."""
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
