"""What other ranks tell rank 0 from their threads, while their main threads train."""

from __future__ import annotations

import pickle
import time
from typing import Any

from torch.distributed import Store  # type: ignore[attr-defined]  # torch's stubs lack it

from trainkit.errors import RankError
from trainkit.strategies.ranks.rank_watch import TO_DO, RankWatch

PATIENCE_S = 30.0
"""How long rank 0 waits for the others after its call was ended by an error, of which they may have died."""

_LONGEST_PAUSE_S = 0.1


class Board:
    """One thing that each rank tells rank 0, through the store in which they have found each other.

    Nobody waits in a collective: who trains meanwhile exchanges gradients with the same ranks.

    Args:
        store: Where it is told; of this board alone.
        watch: Where the ranks stand.
    """

    def __init__(self, store: Store, watch: RankWatch) -> None:
        self._store, self._watch = store, watch
        self._begun_inside = watch.is_inside
        self._left_s: float | None = None

    def tell(self, value: Any) -> None:
        """Tell rank 0. It is sent by pickle."""
        self._store.set(str(self._watch.rank), pickle.dumps(value))  # type: ignore[arg-type]  # stubs lack bytes

    def hear(self) -> list[Any]:
        """Return what the other ranks have told, in their order. Only rank 0 asks, and waits for it.

        Raises:
            RankError: If one of them will not tell it any more.
        """
        keys = [str(rank) for rank in range(1, self._watch.world_size)]
        pause_s = 0.001
        while not self._store.check(keys):
            if self._is_hopeless():
                missing = ", ".join(key for key in keys if not self._store.check([key]))
                raise RankError(f"rank 0 has waited in vain for what rank {missing} writes.\n{TO_DO}")
            time.sleep(pause_s)
            pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)
        told = [pickle.loads(each) for each in self._store.multi_get(keys)]
        for key in keys:
            self._store.delete_key(key)
        return told

    def _is_hopeless(self) -> bool:
        """Whether the call has ended in an error some time ago: the others may have ended with it."""
        if self._watch.verdict:
            return True
        if not self._begun_inside or self._watch.is_inside:
            self._left_s = None
            return False
        self._left_s = self._left_s or time.monotonic()
        return time.monotonic() - self._left_s > PATIENCE_S
