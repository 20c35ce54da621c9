"""Continuing with a `TensorLoader`: its order is drawn again, and it begins at a later batch of it."""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from typing import Any

from torch import Tensor

from trainkit.data.dataloader_copy import is_of_torch
from trainkit.data.global_batches import sampler_of
from trainkit.data.resume.cursor import Cursor, saved_by
from trainkit.data.resume.other_data import draws_other_samples, refuse_other_data
from trainkit.data.tensors import TensorLoader
from trainkit.types import Batch


class TensorCursor(Cursor):
    """Draws the order of the pass again, from the random numbers with which it began, and skips consumed batches."""

    loader: TensorLoader
    # The indices of the pass, shape (samples,), int64; None for the tensors' own order, or before the first pass.
    _order: Tensor | None = None
    _saved_by: tuple[int, int] | None = None  # see `saved_by`

    def state_dict(self, under_way: int = 0) -> dict[str, Any]:
        state = super().state_dict(under_way)
        return {**state, "checksum": self._checksum(state["given"]), **self._data()}

    def _restore(self, state: dict[str, Any], *, mid_epoch: bool) -> None:
        if self._resume is not None:
            self._saved_by, now = saved_by(state), self._data()
            if self._saved_by:  # of another rank's batches the size differs, and the samples are compared later
                del now["batch_size"]
            refuse_other_data(self.name, state, **now)
            self._expected = state["checksum"]

    def _require(self, state: dict[str, Any]) -> None:
        if self._checksum(state["given"]) != state["checksum"]:
            raise draws_other_samples(self.name)

    def may_have_more(self, promised: int) -> bool:
        return not is_of_torch(self.loader.sampler)

    def has_more(self) -> bool:
        # The order is drawn as a whole, whatever the length of its sampler was said to be.
        if self._order is None:
            return super().has_more()
        return self.loader.count_batches(len(self._order)) > self._given.passed

    def known_samples(self, ahead: int) -> int | None:
        samples = self.loader.num_samples if self._order is None else len(self._order)
        return min(self.loader.batch_size, samples - (self._given.passed - ahead - 1) * self.loader.batch_size)

    def known_indices(self, ahead: int) -> list[Any] | None:
        size = self.loader.batch_size
        first = (self._given.passed - ahead - 1) * size
        if self._order is None:
            return list(range(first, min(first + size, self.loader.num_samples)))
        return self._order[first : first + size].tolist()

    def rewind(self) -> None:
        super().rewind()
        self._order = None  # that of the pass before

    def _begin(self) -> Iterator[Batch]:
        return self._begin_at(0)

    def _begin_at(self, given: int) -> Iterator[Batch]:
        self._order = self.loader.draw_order()
        return self.loader.batches(self._order, given)

    def _continue(self, given: int) -> Iterator[Batch]:
        self._order = self.loader.draw_order()
        # The sampler may be the user's, and draw from a generator that no checkpoint holds.
        dealt, by, self._saved_by = sampler_of(self.loader), self._saved_by, None
        own = self._checksum(given) if not (dealt and by) else dealt.checksum_of_indices(*by, given)
        # One process that takes the tensors in their own order notes 0.
        if own != self._expected and not (by and self._expected == 0):
            raise draws_other_samples(self.name)
        return self.loader.batches(self._order, given)

    def _data(self) -> dict[str, int]:
        """Return what has to be the same for a position to mean the same samples."""
        return {"samples": self.loader.num_samples, "batch_size": self.loader.batch_size}

    def _checksum(self, given: int) -> int:
        """Return a checksum of the indices in the first ``given`` batches; 0 if they are in the tensors' own order."""
        # The order stays on the CPU, also for tensors on a GPU: `TensorLoader.batches` moves a copy.
        return 0 if self._order is None else zlib.crc32(self._order[: given * self.loader.batch_size].numpy().data)
