"""Continuing with a loader that keeps its own position."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Iterator
from typing import Any

from trainkit.data.resume.cursor import Cursor, each
from trainkit.seed import isolate_rng
from trainkit.types import Batch


class StatefulCursor(Cursor):
    """Asks the loader itself, which has ``state_dict`` and ``load_state_dict``."""

    def record_before_look_ahead(self) -> None:
        # A copy, because a loader may return the dictionary that it goes on changing.
        self._before_look_ahead = copy.deepcopy(self.loader.state_dict())

    def state_dict(self, ahead: int = 0) -> dict[str, Any]:
        return {**super().state_dict(ahead), "loader": self._before_look_ahead if ahead else self.loader.state_dict()}

    def load_state_dict(self, state: dict[str, Any], *, mid_epoch: bool) -> None:
        super().load_state_dict(state, mid_epoch=mid_epoch)
        # At the end of an epoch too: the loader may count its epochs, or keep the generator that shuffles the next.
        self.loader.load_state_dict(state["loader"])
        if not mid_epoch and state["began"] is not None:
            self._abandon_pass()

    def discard_restored(self) -> None:
        if self.restored:
            self._abandon_pass()
        super().discard_restored()

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

    def _continue(self, given: int) -> Iterator[Batch]:
        # `load_state_dict` has put the loader at its place already.
        return self._start(self.loader)


def has_state(loader: Any) -> bool:
    """Return whether a loader keeps its own position: it has ``state_dict`` and ``load_state_dict``."""
    return callable(getattr(loader, "state_dict", None)) and callable(getattr(loader, "load_state_dict", None))
