"""Continuing in the middle of an epoch: each loader gives the batches that an unbroken run would have had.

A `Cursor` stands for one loader. How it finds its place depends on what the loader is:

====================================  ==================================================================================
DataLoader over a map-style dataset   its samplers run again from the random numbers with which the epoch began; the
                                      first *k* batches are dropped **as indices**, and nothing is loaded
TensorLoader                          the order is drawn again from those, and the loader begins *k* batches later in it
loader with ``state_dict``            is asked for its state, and given it back
anything else                         *k* batches are loaded and thrown away, with a warning
====================================  ==================================================================================

Finding the place draws no random number that training would see. ``docs/design/0003-exact-resume.md`` tells why this is
exact.
"""

from __future__ import annotations

import copy
import itertools
import warnings
import zlib
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from torch.utils.data import DataLoader

from trainkit.data.combined import batches_of, is_sliceable
from trainkit.data.dataloader_copy import has_own_batches, index_sampler, is_map_style, with_batch_sampler, with_sampler
from trainkit.data.resume.cursor import Cursor, draws_other_samples, refuse_other_data
from trainkit.data.resume.seeding import SeededIndex, SeededIndices, epoch_seed
from trainkit.data.resume.tensor_cursor import TensorCursor
from trainkit.data.tensors import TensorLoader
from trainkit.errors import DataError
from trainkit.seed import rng_state, same_rng_state, set_rng_state
from trainkit.types import Batch

# More than workers draw ahead of what is consumed.
KEPT_CHECKSUMS = 4096


def make_cursor(loader: Any, name: str) -> Cursor:
    """Return the kind of cursor that fits ``loader``."""
    if has_state(loader):
        return StatefulCursor(loader, name)
    if isinstance(loader, TensorLoader):
        return TensorCursor(loader, name)
    if is_map_style(loader):
        return IndexCursor(loader, name)
    return ReplayCursor(loader, name)


def are_replayed_together(cursors: list[Cursor]) -> bool:
    """Return whether loaders find their place only by beginning anew together: some draw random numbers in turn."""
    replays = any(isinstance(each, ReplayCursor) and not is_sliceable(each.loader) for each in cursors)
    return len(cursors) > 1 and replays and not any(isinstance(each, StatefulCursor) for each in cursors)


def has_state(loader: Any) -> bool:
    """Return whether a loader keeps its own position: it has ``state_dict`` and ``load_state_dict``."""
    return callable(getattr(loader, "state_dict", None)) and callable(getattr(loader, "load_state_dict", None))


class ReplayCursor(Cursor):
    """Finds the place by loading batches and throwing them away: for iterable datasets and any other iterable."""

    def _begin(self) -> Iterator[Batch]:
        return iter(batches_of(_without_persistent_workers(self.loader)))

    def _continue(self, given: int) -> Iterator[Batch]:
        if is_sliceable(self.loader):
            return iter(self.loader[given:])
        warnings.warn(
            f"{self.name} is a {type(self.loader).__name__}, which cannot be told where to begin: to continue "
            f"exactly, {given} batches are loaded and thrown away. A map-style dataset, or a loader with state_dict "
            "and load_state_dict, skips them.",
            stacklevel=2,
        )
        batches = self._begin()
        next(batches, None)  # it may draw a seed
        before = rng_state()
        for _ in itertools.islice(batches, given - 1):
            pass
        if not same_rng_state(before, rng_state()):
            warnings.warn(
                f"{self.name} draws random numbers from the global generators, in turn with training, so what was "
                "thrown away may differ from what the run had before: a buffer that it shuffles has other samples "
                "now. Let the dataset draw from a torch.Generator that it makes in __iter__.",
                stacklevel=2,
            )
        return batches


class StatefulCursor(Cursor):
    """Asks the loader itself, which has ``state_dict`` and ``load_state_dict``."""

    def mark(self) -> None:
        self._marked = copy.deepcopy(self.loader.state_dict())

    def state_dict(self, ahead: int = 0) -> dict[str, Any]:
        return {**super().state_dict(ahead), "loader": self._marked if ahead else self.loader.state_dict()}

    def load_state_dict(self, state: dict[str, Any], *, mid_epoch: bool) -> None:
        super().load_state_dict(state, mid_epoch=mid_epoch)
        self.loader.load_state_dict(state["loader"])

    def _continue(self, given: int) -> Iterator[Batch]:
        return iter(self.loader)


class IndexCursor(Cursor):
    """Lets the samplers run again, and drops consumed batches as indices. Seeds workers for each batch."""

    def __init__(self, loader: DataLoader[Any], name: str) -> None:
        super().__init__(loader, name)
        if loader.num_workers and not getattr(loader, "in_order", True):
            raise DataError(f"{name} has in_order=False, so the order of its batches is left to chance. Leave it out.")
        self._stream: IndexStream | None = None
        # Made once: workers that persist belong to it.
        if loader.batch_sampler is not None:
            self._positioned = with_batch_sampler(loader, _IndexSource(loader.batch_sampler, self))
        else:
            self._positioned = with_sampler(loader, _IndexSource(loader.sampler, self))
        self._skip = self._draw_ahead = 0
        self._had_workers = False
        self._was_watched = False

    def state_dict(self, ahead: int = 0) -> dict[str, Any]:
        state = super().state_dict(ahead)
        # Workers are given indices ahead; those are drawn already, and have to come again as well.
        drawn, checksum = (state["given"], 0) if self._stream is None else self._stream.drawn
        return {
            **state,
            "drawn": drawn,
            "checksum": checksum,
            "persistent": self._had_workers or self._has_workers,
            "samples": len(self.loader.dataset),
            "batch_size": self.loader.batch_size,
            "workers": self.loader.num_workers,
        }

    def load_state_dict(self, state: dict[str, Any], *, mid_epoch: bool) -> None:
        super().load_state_dict(state, mid_epoch=mid_epoch)
        self._had_workers = state.get("persistent", False)
        if self._resume is None:
            return
        refuse_other_data(self.name, state, samples=len(self.loader.dataset), batch_size=self.loader.batch_size)
        workers, had = self.loader.num_workers, state.get("workers", self.loader.num_workers)
        if bool(workers) != bool(had):
            warnings.warn(
                f"{self.name} has num_workers={workers}, and the run that is to be continued had {had}: in this epoch "
                "the dataset draws other random numbers than it would have. From some workers to others is exact.",
                stacklevel=2,
            )
        self._draw_ahead, self._expected = state.get("drawn", state["given"]) - state["given"], state["checksum"]

    def rewind(self) -> None:
        super().rewind()
        self._stream = None

    def close(self) -> None:
        if self._has_workers:
            self._had_workers = True
            self._positioned._iterator._shutdown_workers()  # type: ignore[union-attr]  # torch has no public way
            self._positioned._iterator = None

    @property
    def _has_workers(self) -> bool:
        """Whether there are worker processes that persist."""
        return self._positioned._iterator is not None

    def open_stream(self, indices: Iterable[Any]) -> IndexStream:
        """Begin to draw indices; called by the loader when a pass begins."""
        seed = epoch_seed(self.began["global"]["torch"], self.epoch) if self.loader.num_workers and self.began else None
        self._stream = IndexStream(indices, self._skip, seed, self._at_first_draw, self._draw_second)
        if self._had_workers and not self._has_workers and self.began is not None:
            # Starting workers draws a seed, which the run that is continued did in an earlier pass: it is undone.
            self._note_first_draw(self.began)
        return self._stream

    def _at_first_draw(self) -> None:
        # Samplers draw their permutation here, and other loaders may have drawn since the pass began.
        assert self.began is not None
        if "first_draw" in self.began:
            set_rng_state(self.began["first_draw"])
            self.set_own_generators(self.began.get("own_first_draw", []))
        else:
            self._note_first_draw(self.began)

    def _note_first_draw(self, began: dict[str, Any]) -> None:
        if "first_draw" not in began:
            began |= {"first_draw": rng_state(), "own_first_draw": self.own_generators()}

    def _draw_second(self, indices: Iterator[Any]) -> Any:
        """Draw from ``indices``; warn if that takes random numbers, which can be repeated only at the first draw."""
        if self._was_watched:
            return next(indices)
        self._was_watched = True
        before = rng_state()
        drawn = next(indices)
        if not same_rng_state(before, rng_state()):
            sampler = self.loader.batch_sampler if has_own_batches(self.loader) else index_sampler(self.loader)
            warnings.warn(
                f"{self.name}: {type(sampler).__name__} draws random numbers batch by batch from global generators. "
                "If training draws from them too, in Dropout for instance, a run cannot be continued in the middle of "
                "an epoch. Draw the whole order at the beginning of __iter__, or from a torch.Generator that is the "
                "sampler's attribute `generator`.",
                stacklevel=2,
            )
        return drawn

    def _begin(self) -> Iterator[Batch]:
        self._skip = 0
        return self._positioned.__iter__()

    def _continue(self, given: int) -> Iterator[Batch]:
        self._skip = given
        batches = iter(self._positioned)
        self._skip = 0
        drawn = given + self._draw_ahead
        if self._stream is None:
            raise DataError(
                f"{self.name}: {type(self.loader).__name__} iterates without its sampler, so its place is unknown."
            )
        self._stream.find_place(drawn)
        if self._stream.checksum(drawn) != self._expected:
            raise draws_other_samples(self.name)
        return batches


class _IndexSource:
    """Stands in for a (batch) sampler, and opens a stream of its indices at each pass."""

    def __init__(self, sampler: Iterable[Any], owner: IndexCursor) -> None:
        self.sampler = sampler
        self._owner = owner

    def __iter__(self) -> IndexStream:
        return self._owner.open_stream(self.sampler)

    def __len__(self) -> int:
        return len(self.sampler)  # type: ignore[arg-type]  # asked only where the sampler has a length

    def __getattr__(self, name: str) -> Any:
        # For users who look at loader.batch_sampler.batch_size and the like. Not while a pickle is being read.
        if name.startswith("__") or "sampler" not in self.__dict__:
            raise AttributeError(name)
        return getattr(self.sampler, name)

    def __getstate__(self) -> dict[str, Any]:
        return {"sampler": self.sampler, "_owner": None}


class IndexStream:
    """The indices of one pass, with a running checksum of those that were consumed.

    Args:
        indices: The sampler.
        skip: How many to drop before the first one is given.
        seed: From which workers are seeded for each batch; None leaves them alone.
        at_first_draw: Called before anything is drawn.
        draw_second: Draws the item after that from the iterator it is given.
    """

    def __init__(
        self,
        indices: Iterable[Any],
        skip: int,
        seed: int | None,
        at_first_draw: Callable[[], None],
        draw_second: Callable[[Iterator[Any]], Any],
    ) -> None:
        self._at_first_draw = at_first_draw
        self._draw_second = draw_second
        self._indices = iter(indices)
        self._to_skip = skip
        self._seed = seed
        self._drawn = 0
        self._waiting: deque[Any] = deque()
        self._checksums: deque[tuple[int, int]] = deque([(0, 0)], maxlen=KEPT_CHECKSUMS)

    def __iter__(self) -> IndexStream:
        return self

    def __next__(self) -> Any:
        self.find_place()
        indices = self._waiting.popleft() if self._waiting else self._draw()
        if self._seed is None:
            return indices
        wrap = SeededIndices if isinstance(indices, list) else SeededIndex.of
        return wrap(indices, self._seed, self._drawn - len(self._waiting) - 1)

    def find_place(self, drawn: int = 0) -> None:
        """Drop what is to be skipped, unless that is done; then draw ahead until ``drawn`` items have been drawn."""
        while self._to_skip:
            self._to_skip -= 1
            self._draw()
        while self._drawn < drawn:
            self._waiting.append(self._draw())

    @property
    def drawn(self) -> tuple[int, int]:
        """How many items were drawn, and their checksum."""
        return self._checksums[-1]

    def checksum(self, consumed: int) -> int:
        """Return the checksum of the first ``consumed`` items, which must be among the newest that were drawn."""
        return dict(self._checksums)[consumed]

    def _draw(self) -> Any:
        if self._drawn == 0:
            self._at_first_draw()
        indices = self._draw_second(self._indices) if self._drawn == 1 else next(self._indices)
        self._drawn += 1
        self._checksums.append((self._drawn, zlib.crc32(repr(indices).encode(), self._checksums[-1][1])))
        return indices


def _without_persistent_workers(loader: Any) -> Any:
    # Workers that persist keep the random numbers of the epoch before, which no checkpoint holds.
    if isinstance(loader, DataLoader) and loader.persistent_workers:
        loader = (
            with_batch_sampler(loader, loader.batch_sampler)
            if loader.batch_sampler is not None
            else with_sampler(loader, loader.sampler)
        )
        loader.__dict__["persistent_workers"] = False
    return loader
