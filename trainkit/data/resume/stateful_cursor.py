"""Continuing with a loader that keeps its own position."""

from __future__ import annotations

import copy
from collections import deque
from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Any

from torch.utils.data import SequentialSampler

from trainkit.data.dataloader_copy import has_own_batches, is_map_style
from trainkit.data.resume.cursor import Cursor, each
from trainkit.errors import StateError
from trainkit.hooks.attribution import in_one_line
from trainkit.seed import isolate_rng
from trainkit.storage.owners import state_of
from trainkit.types import Batch


class StatefulCursor(Cursor):
    """Asks the loader itself, which has ``state_dict`` and ``load_state_dict``."""

    # The state of the loader when the pass began, or where it was found again, and the batches given by then. A loader
    # cannot be set back before a batch that it has given: where one is under way, those since then are given again.
    _base: tuple[dict[str, Any], int] | None = None
    _may_be_at_end = False  # whether the loader may stand behind the last batch of a pass that is over

    def state_dict(self, under_way: int = 0) -> dict[str, Any]:
        state = super().state_dict(under_way)
        if under_way and not self._ended and self._base is not None:
            base, given = self._base
            return {**state, "loader": base, "again": state["given"] - given}
        return {**state, "loader": self._state_of_loader(), "again": 0}

    def _restore(self, state: dict[str, Any], *, mid_epoch: bool) -> None:
        # At the end of an epoch too: the loader may count its epochs, or keep the generator that shuffles the next.
        self.loader.load_state_dict(state["loader"])
        self._may_be_at_end = not mid_epoch
        if not mid_epoch and state["began"] is not None:
            self._abandon_pass()
        self._again = state.get("again", 0)

    def known_indices(self, ahead: int) -> list[Any] | None:
        # Only in order: it keeps to itself what its sampler gives.
        if not is_map_style(self.loader) or type(getattr(self.loader, "sampler", None)) is not SequentialSampler:
            return None
        size = self.loader.batch_size
        if size is None or has_own_batches(self.loader):
            return None
        first = (self._given.passed - ahead - 1) * size
        return list(range(first, min(first + size, len(self.loader.dataset))))

    def discard_restored(self) -> None:
        if self.restored:
            self._may_be_at_end = True
            self._abandon_pass()
        super().discard_restored()

    def _state_of_loader(self) -> Any:
        state = state_of(self.loader)
        # A copy, because a loader may return the dictionary that it goes on changing.
        try:
            return copy.deepcopy(state)
        except Exception as error:
            kind = type(self.loader).__qualname__
            raise StateError(
                f"what {kind}.state_dict() returned cannot be copied, and so not be kept ({in_one_line(error)}). It "
                "may hold tensors, numbers, strings, bytes, None, and dict, list, tuple and set of these."
            ) from error

    def _abandon_pass(self) -> None:
        """Let the next pass be a new one, and not the rest of the one in which the state was saved.

        The loader stands at the end of that pass, or where it was left. The next ``iter`` would go on there, and give
        few batches or none; in the run that was saved it was the one after that which began anew.
        """
        with isolate_rng():
            iter(self.loader)

    def _start(self, loader: Iterable[Batch]) -> Iterator[Batch]:
        # Whatever iterator it is: the position that the loader keeps is not to be asked for in the midst of a batch.
        return each(super()._start(loader))

    def _begin(self) -> Iterator[Batch]:
        self._base = self._state_of_loader(), 0
        batches = super()._begin()
        if not self._may_be_at_end:
            return batches
        self._may_be_at_end = False
        return self._or_anew(batches)

    def _or_anew(self, batches: Iterator[Batch]) -> Iterator[Batch]:
        """Return ``batches``, or those of another pass if there are none.

        Where ``__iter__`` is written as a generator, `_abandon_pass` has no effect, since nothing of it runs before the
        first batch is asked for.
        """
        num_batches = 0
        for batch in batches:
            num_batches += 1
            yield batch
        if num_batches == 0:
            yield from super()._begin()

    def _continue(self, given: int) -> Iterator[Batch]:
        # `load_state_dict` has put the loader at its place already.
        again, self._again = self._again, 0
        self._base = self._state_of_loader(), given - again
        batches = self._start(self.loader)
        deque(islice(batches, again), maxlen=0)  # load and throw away
        return batches


def has_state(loader: Any) -> bool:
    """Return whether a loader keeps its own position: it has ``state_dict`` and ``load_state_dict``."""
    return callable(getattr(loader, "state_dict", None)) and callable(getattr(loader, "load_state_dict", None))
