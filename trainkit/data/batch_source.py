"""What a `LimitedLoader` takes its batches from: a cursor for each loader, which begin and continue a pass together."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Any

from trainkit.data.combined import CombinedLoader, batches_of, is_sliceable
from trainkit.data.dataloader_copy import samplers_of
from trainkit.data.resume.content import content_of
from trainkit.data.resume.cursor import Cursor
from trainkit.data.resume.cursors import are_replayed_together, make_cursor
from trainkit.data.resume.other_data import Resume, other_data, warn_inexact
from trainkit.seed import isolate_rng, rng_state, set_rng_state
from trainkit.types import Batch


class BatchSource:
    """One loader, or the loaders of a `CombinedLoader`, each with a cursor that finds its place again.

    Args:
        loader: Any iterable of batches.
        name: What errors call it.
        knows_length: Whether it tells how many batches it has.

    Attributes:
        loader: The loader.
        cursors: The cursor of each loader.
        is_combined: Whether there are several loaders.
        is_side_by_side: Whether several loaders give their batches in turn.
        rng_at_start: The random numbers with which a pass began whose loaders are replayed together; else None.
    """

    def __init__(self, loader: Any, name: str, *, knows_length: bool) -> None:
        self.loader = loader
        self.rng_at_start: dict[str, Any] | None = None
        self._name = name
        # What is iterated over: a cursor, or the user's CombinedLoader with a cursor in place of each loader.
        if isinstance(loader, CombinedLoader):
            self._batches: CombinedLoader | Cursor = loader.map(self._cursor)
            self.cursors: list[Cursor] = self._batches.flattened
        else:
            self._batches = self._cursor(loader)
            self.cursors = [self._batches]
        self.is_combined = isinstance(loader, CombinedLoader)
        self.is_side_by_side = isinstance(loader, CombinedLoader) and loader.mode != "sequential"
        for cursor in self.cursors:
            # Without a length a stream of their own is drawn from, which is shared by loaders side by side.
            cursor.draws_in_turn = knows_length or self.is_side_by_side
        self._passes = 0
        self._restored: dict[str, Any] | None = None  # what `load_state_dict` restored, for the next pass

    # A pass

    def begin(self, start: int) -> Iterable[Batch]:
        """Begin a pass, or the rest of the one that was restored, and return its batches from ``start`` on."""
        self._passes += 1
        if is_sliceable(self.loader):
            return self.loader[start:] if start else self.loader
        place, self._restored = self._restored, None
        if place is not None and place.get("began"):
            return self._replayed_together(place, start)
        batches = batches_of(self._batches)
        # Each cursor goes to its own place when it is iterated over; together these are `start`.
        if place is not None:
            if isinstance(self._batches, CombinedLoader):
                # One that was started anew had ended: a cycle ends when all have.
                return self._batches.batches(saved.get("begun", 1) > 1 for saved in place["cursors"])
            return batches
        for cursor in self.cursors:
            cursor.rewind()
        self.rng_at_start = None
        if self.is_side_by_side and are_replayed_together(self.cursors):
            self.rng_at_start = {"global": rng_state(), "own": [cursor.own_generators() for cursor in self.cursors]}
        return islice(batches, start, None)

    def _replayed_together(self, state: dict[str, Any], start: int) -> Iterator[Batch]:
        """Start all loaders of a `CombinedLoader` again, and return the batches after the first ``start``."""
        self.rng_at_start = at_start = state["began"]
        with isolate_rng():
            set_rng_state(at_start["global"])
            for cursor, saved, own in zip(self.cursors, state["cursors"], at_start["own"], strict=True):
                # From its own position each loader would go to its place alone.
                cursor.replay(saved)
                cursor.set_own_generators(own)
            batches = iter(batches_of(self._batches))
            deque(islice(batches, start), maxlen=0)  # load and throw away
            for cursor, saved in zip(self.cursors, state["cursors"], strict=True):
                cursor.check_replay(saved)
        # isolate_rng() put the global generators back, and does not know those of the loaders.
        for cursor, saved in zip(self.cursors, state["cursors"], strict=True):
            cursor.set_own_generators(saved["own"])
        return batches

    @property
    def may_draw(self) -> bool:
        """Whether the process of the training may draw random numbers for a batch behind the first one of a pass."""
        # Each of several loaders is started when it comes to it, which draws a seed for its workers.
        return self.is_combined or self.cursors[0].may_draw

    @property
    def is_told_by_count(self) -> bool:
        """Whether every position in a pass has the state of its end, but for the number of batches given."""
        return not self.is_combined and self.cursors[0].is_told_by_count

    # Whether there is more than was promised

    def may_have_more(self, promised: int) -> bool:
        """Whether a pass may have more than the ``promised`` batches, of which `has_more` then tells."""
        each = [len(cursor) for cursor in self.cursors] if len(self.cursors) > 1 else [promised]
        return any(cursor.may_have_more(count) for cursor, count in zip(self.cursors, each, strict=True))

    def has_more(self) -> bool:
        """Whether there are more batches than were given, which is told without loading any."""
        more = [cursor.has_more() for cursor in self.cursors]
        if isinstance(self._batches, CombinedLoader):
            return self._batches.goes_on(more, [cursor.was_restarted for cursor in self.cursors])
        return more[0]

    def goes_on(self) -> bool:
        """Whether a loader has a batch behind the promised ones, which all were given; it is loaded, and lost."""
        return any(cursor.goes_on() for cursor in self.cursors)

    def why_nothing_came(self) -> str:
        """Say why a pass gave no batch at all."""
        # A generator, or another iterator, that the epoch before, or the sanity check, has used up.
        used_up = next((each.loader for each in self.cursors if isinstance(each.loader, Iterator)), None)
        if self._passes > 1 and used_up is not None:
            return (
                f"{self._name} is used up: a {type(used_up).__name__} can be iterated over only once.\n"
                "    to do        pass what starts anew at every iter(): a list, a DataLoader, an IterableDataset"
            )
        return f"{self._name} gave no batches."

    # Of which samples a batch was made: the newest one but ``ahead``

    def known_samples(self, ahead: int) -> int | None:
        """Return of how many samples a batch was made; None if that is not known, 0 if of several loaders'."""
        if self.is_side_by_side:
            return 0
        return None if self.is_combined else self.cursors[0].known_samples(ahead)

    def known_indices(self, ahead: int) -> list[Any] | None:
        """Return the samples' indices in the dataset of a batch; None if that is not known."""
        return None if self.is_combined else self.cursors[0].known_indices(ahead)

    # Its places

    def with_contents(self, positions: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """Return ``positions`` with the content of each loader as it is now: it may be changed while it is used."""
        contents = [content_of(cursor.loader) for cursor in self.cursors]
        return [{**position, "content": content} for position, content in zip(positions, contents, strict=True)]

    def load_state_dict(self, state: dict[str, Any], *, mid_epoch: bool, resume: Resume) -> bool:
        """Restore the positions in ``state``, with which the next pass continues if that is in ``mid_epoch``.

        Returns:
            Whether they are those of these loaders. With another number of loaders the pass begins anew.

        Raises:
            CheckpointError: If they are not, and ``resume`` is "exact".
        """
        if len(state["cursors"]) != len(self.cursors):
            error = other_data(
                f"{self._name} consists of {len(self.cursors)} loaders, and that of the run that is to be continued "
                f"of {len(state['cursors'])}."
            )
            if resume == "exact":
                raise error
            if mid_epoch:
                warn_inexact(error)
            return False
        for cursor in self.cursors:
            cursor.tolerant = resume != "exact"
        for cursor, saved in zip(self.cursors, state["cursors"], strict=True):
            cursor.load_state_dict(saved, mid_epoch=mid_epoch)
        self._restored = state if mid_epoch else None
        return True

    def discard_restored(self) -> None:
        """Drop what was restored, so that the next pass is a new one."""
        self._restored = None
        for cursor in self.cursors:
            cursor.discard_restored()

    # All of them

    def set_epoch(self, epoch: int) -> None:
        """Tell samplers that shuffle by epoch (those with a ``set_epoch`` method) which epoch comes."""
        for cursor in self.cursors:
            cursor.epoch = epoch
            _set_epoch(cursor.loader, epoch)

    def close(self) -> None:
        """End worker processes that outlive a pass."""
        for cursor in self.cursors:
            cursor.close()

    def _cursor(self, loader: Any) -> Cursor:
        return make_cursor(loader, self._name)


def _set_epoch(loader: Any, epoch: int) -> None:
    if isinstance(loader, CombinedLoader):
        for inner in loader.flattened:
            _set_epoch(inner, epoch)
        return
    for part in (loader, *samplers_of(loader)):
        set_epoch = getattr(part, "set_epoch", None)
        if callable(set_epoch):
            set_epoch(epoch)
