"""Continuing with a `TensorLoader`: its position is a number in an order that is drawn again."""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from typing import Any

from torch import Tensor

from trainkit.data.resume.cursor import Cursor, draws_other_samples, refuse_other_data
from trainkit.data.tensors import TensorLoader
from trainkit.types import Batch


class TensorCursor(Cursor):
    """Draws the order of the pass again, from the random numbers with which it began, and begins later in it."""

    loader: TensorLoader
    _order: Tensor | None = None

    def state_dict(self, ahead: int = 0) -> dict[str, Any]:
        state = super().state_dict(ahead)
        return {**state, "checksum": self._checksum(state["given"]), **self._data()}

    def load_state_dict(self, state: dict[str, Any], *, mid_epoch: bool) -> None:
        super().load_state_dict(state, mid_epoch=mid_epoch)
        if self._resume is not None:
            refuse_other_data(self.name, state, **self._data())
            self._expected = state["checksum"]

    def rewind(self) -> None:
        super().rewind()
        self._order = None

    def _begin(self) -> Iterator[Batch]:
        self._order = self.loader.draw_order()
        return self.loader.batches(self._order)

    def _continue(self, given: int) -> Iterator[Batch]:
        self._order = self.loader.draw_order()
        if self._checksum(given) != self._expected:
            raise draws_other_samples(self.name)
        return self.loader.batches(self._order, given)

    def _data(self) -> dict[str, int]:
        return {"samples": self.loader.num_samples, "batch_size": self.loader.batch_size}

    def _checksum(self, given: int) -> int:
        """Return a checksum of the samples in the first ``given`` batches; 0 if they are in the tensors' own order."""
        return 0 if self._order is None else zlib.crc32(self._order[: given * self.loader.batch_size].numpy().data)
