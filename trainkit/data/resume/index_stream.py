"""The indices that a sampler gives in one pass, of which some can be skipped."""

from __future__ import annotations

import zlib
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from trainkit.data.resume.seeding import SeededIndex, SeededIndices

KEPT_CHECKSUMS = 4096
"""How many of the newest checksums are kept: more than the indices that workers are given before they are consumed."""


class IndexStream:
    """The indices of one pass, with a running checksum of those that were drawn.

    An item is what the sampler gives: a list of indices that make a batch, or one index where ``batch_size`` is None.

    Args:
        indices: The sampler.
        skip: How many items to drop before the first one is given.
        seed: The seed of the pass, from which workers are seeded for each batch; None leaves them alone.
        at_first_draw: Called before anything is drawn from the sampler.
        draw_second: Draws the second item from the iterator that it is given.
        kept_items: How many of the newest items are kept.

    Attributes:
        is_exhausted: Whether the sampler has come to its end; it is not asked again.
    """

    def __init__(
        self,
        indices: Iterable[Any],
        skip: int,
        seed: int | None,
        at_first_draw: Callable[[], None],
        draw_second: Callable[[Iterator[Any]], Any],
        kept_items: int = 1,
    ) -> None:
        self._at_first_draw = at_first_draw
        self._draw_second = draw_second
        self._indices = iter(indices)
        self._to_skip = skip
        self._seed = seed
        self.is_exhausted = False
        self._drawn = 0
        self._drawn_ahead: deque[Any] = deque()  # drawn from the sampler, not yet asked for by the loader
        self._sizes: deque[int | None] = deque(maxlen=KEPT_CHECKSUMS)  # of the newest items, in indices
        self._items: deque[Any] = deque(maxlen=kept_items)
        # Pairs of how many items were drawn and their checksum.
        self._checksums: deque[tuple[int, int]] = deque([(0, 0)], maxlen=KEPT_CHECKSUMS)

    def __iter__(self) -> IndexStream:
        return self

    def __next__(self) -> Any:
        self.advance()
        indices = self._drawn_ahead.popleft() if self._drawn_ahead else self._draw()
        if self._seed is None:
            return indices
        wrap = SeededIndices if isinstance(indices, list) else SeededIndex.of
        # By the number of the batch in the epoch, whoever makes it: so the number of workers does not matter.
        return wrap(indices, self._seed, self._drawn - len(self._drawn_ahead) - 1)

    def advance(self, drawn: int = 0) -> None:
        """Drop the items to be skipped, if that is still to be done; then draw until ``drawn`` have been drawn in all.

        What is drawn beyond the skipped items is kept, and given out in its turn.
        """
        while self._to_skip:
            self._to_skip -= 1
            self._draw()
        while self._drawn < drawn:
            self._drawn_ahead.append(self._draw())

    def reaches(self, drawn: int) -> bool:
        """Draw until ``drawn`` items have been drawn in all; return whether there are as many."""
        try:
            self.advance(drawn)
        except StopIteration:
            return False
        return True

    @property
    def drawn(self) -> tuple[int, int]:
        """How many items were drawn, and their checksum."""
        return self._checksums[-1]

    def checksum(self, drawn: int) -> int:
        """Return the checksum of the first ``drawn`` items; the last of them must be among the newest that are kept."""
        return dict(self._checksums)[drawn]

    def size(self, drawn: int) -> int | None:
        """Return how many indices item number ``drawn`` has, the first being 1; None if it is no list of them."""
        return self._sizes[drawn - self._drawn - 1] if drawn > self._drawn - len(self._sizes) else None

    def item(self, drawn: int) -> Any:
        """Return item number ``drawn``, the first being 1; None if it is not among the newest that are kept."""
        return self._items[drawn - self._drawn - 1] if drawn > self._drawn - len(self._items) else None

    def _draw(self) -> Any:
        if self.is_exhausted:
            raise StopIteration
        if self._drawn == 0:
            self._at_first_draw()
        try:
            indices = self._draw_second(self._indices) if self._drawn == 1 else next(self._indices)
        except StopIteration:
            self.is_exhausted = True
            raise
        self._drawn += 1
        self._items.append(indices)
        self._sizes.append(len(indices) if isinstance(indices, list | tuple) else None)
        self._checksums.append((self._drawn, chained(self._checksums[-1][1], indices)))
        return indices


def chained(checksum: int, indices: Any) -> int:
    """Return the checksum of what had ``checksum`` and of the item behind it."""
    # repr() serves whatever a sampler gives: lists, tuples, ints, strings.
    return zlib.crc32(repr(indices).encode(), checksum)
