"""Whether a run that goes on with another number of ranks keeps its global batches, and how their loaders are dealt."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

from trainkit.data.batch_sizes import batch_sizes
from trainkit.data.combined import CombinedLoader
from trainkit.data.global_batches import GlobalBatch, GlobalBatchSampler, deal, sampler_of, why_not
from trainkit.errors import CheckpointError
from trainkit.output import say, warn
from trainkit.strategies.base import Strategy

GLOBAL_BATCH = "global_batch"
"""The key in the ``trainkit`` entry of a checkpoint."""

_FIRST_RANKS = "first_ranks"

Saved = Mapping[str, Any]


class KeptBatches:
    """What the global batches of a run are made of, from its beginning on, and the loaders that are dealt by it.

    A loader says how many samples a batch of one rank has. Where a run goes on with another number of ranks, that
    number was either left as it was, or made to fit by the code (``batch_size=12 // world_size``). In both cases each
    global batch has the samples that it would have had. Where it is another one, or the loader is of a kind that cannot
    be dealt so, the run goes on with other batches: from the end of an epoch, with a warning.

    Ranks that compute one batch together, as tensor parallel ones do, count as one here.

    Args:
        rank: This process.
        world_size: How many there are.
        checkpoint: What the run goes on from, if it does.
        first_ranks: The first of the ranks that compute each part of a global batch; None if each computes its own.
        takes_code: Whether the batch size that the code says is wanted, on each rank.

    Attributes:
        why_not: Why the batches are others than they were; empty if they are the same.
        saved_first_ranks: The ``first_ranks`` of the run that saved the checkpoint.

    Raises:
        CheckpointError: If the checkpoint names ranks of which it has nothing.
    """

    def __init__(
        self,
        rank: int,
        world_size: int,
        checkpoint: Mapping[str, Any] | None = None,
        *,
        first_ranks: Sequence[int] | None = None,
        takes_code: bool = False,
    ) -> None:
        own = (checkpoint or {}).get("trainkit", {})
        self._rank, self._world_size = rank, world_size
        self._first_ranks = first_ranks
        self._saved: Saved | None = own.get(GLOBAL_BATCH)
        self.saved_first_ranks = _first_ranks_in(self._saved or {}, len(own.get("ranks", ())))
        self._saved_by = len(self.saved_first_ranks)
        self._takes_code = takes_code
        self._batches: list[GlobalBatch | None] = []
        self._asks_code = False  # whether the code has made the batch of one rank fit
        self._has_decided = False
        self._validated: dict[str, Any] | None = None
        self.why_not = ""

    @property
    def _has_other_ranks(self) -> bool:
        """Whether the run has begun on another number of ranks, or was saved by another number."""
        if self._saved is None or not self._saved_by:
            return False
        return {self._saved["ranks"], self._saved_by} != {self._world_size} or bool(self._saved.get("moved"))

    def deal(self, loader: Any, seed: int, alike: Callable[[], AbstractContextManager[None]] = nullcontext) -> Any:
        """Return this rank's part of a training loader; None if it is to be dealt as in a run that begins.

        Args:
            loader: As the user gave it.
            seed: The seed of the shuffling, equal on all ranks.
            alike: See `global_batches.deal`.
        """
        loaders = loader.flattened if isinstance(loader, CombinedLoader) else [loader]
        sizes = [None if why_not(each) else _size_of(each) for each in loaders]
        is_first, self._has_decided = not self._has_decided, True
        if self._has_other_ranks and not self.why_not:
            self.why_not = self._decide(loaders, sizes) if is_first else _obstacle(loaders, sizes)
            dealt = None if self.why_not else self._dealt(loader, loaders, sizes, seed, alike)
            if dealt is not None:
                return dealt
            if not is_first:  # of loaders that are made again nobody else tells
                warn(f"{self.why_not}, so the global batches are others than they were.")
        self._batches = [None if size is None else GlobalBatch(self._world_size, size) for size in sizes]
        return None

    def _batch_of(self, size: int) -> GlobalBatch:
        """Return the global batch of which a loader says ``size`` for one rank."""
        assert self._saved is not None, "there is a checkpoint"
        ranks = self._saved["ranks"]
        return GlobalBatch(ranks, size * self._world_size // ranks if self._asks_code else size)

    def _dealt(
        self,
        loader: Any,
        loaders: Sequence[Any],
        sizes: Sequence[int | None],
        seed: int,
        alike: Callable[[], AbstractContextManager[None]],
    ) -> Any:
        """Return the parts of this rank; None, with the reason in `why_not`, if there is none for each rank."""
        self._batches = [None if size is None else self._batch_of(size) for size in sizes]
        smallest = min((each.samples for each in self._batches if each is not None), default=0)
        if smallest < self._world_size:
            self.why_not = f"a global batch has {smallest} samples, and there are {self._world_size} ranks"
            return None
        batches = dict(zip(map(id, loaders), self._batches, strict=True))

        def dealt(each: Any) -> Any:
            batch = batches[id(each)]
            assert batch is not None, "it was asked whether it can be dealt"
            return deal(each, self._rank, self._world_size, batch, seed, alike)

        parts = loader.map(dealt) if isinstance(loader, CombinedLoader) else dealt(loader)
        if len(loaders) > 1 and not all(sampler.is_even for sampler in _samplers_of(parts)):
            self.why_not = f"the batches of several loaders cannot be dealt evenly to {self._world_size} ranks"
            return None
        return parts

    def validated(self, limit: int | float, loaders: int) -> list[int | None] | None:
        """Return how many samples of each validation loader are validated; None if that goes by its own limit.

        Asked after `deal`. A number of batches is that of each rank, so other ranks would have other samples.
        """
        saved = (self._saved or {}).get("validated")
        if saved is None or not self._has_other_ranks or self.why_not:
            return None
        self._validated = saved
        counts: list[int | None] = list(saved["samples"])
        # Another limit is meant, and so are other loaders.
        return counts if saved["limit"] == limit and len(counts) == loaders and None not in counts else None

    def note_validated(self, limit: int | float, counts: list[int | None]) -> None:
        """Note how many samples of each validation loader are validated, for ranks that go on."""
        self._validated = {"limit": limit, "samples": counts}

    def state_dict(self) -> dict[str, Any]:
        """Return what the global batches are made of, for a checkpoint."""
        ranks = next((each.ranks for each in self._batches if each is not None), self._world_size)
        sizes = [None if each is None else each.size for each in self._batches]
        # Of a place that was found again, and that nothing was taken from since, the next run has to know the same.
        moved = self._has_other_ranks and not self.why_not
        saved = {"ranks": ranks, "sizes": sizes, "moved": moved, "validated": self._validated}
        return saved if self._first_ranks is None else saved | {_FIRST_RANKS: [*self._first_ranks]}

    def refuse(self, why_not: str) -> None:
        """Note that the batches are not dealt by the Trainer, and why."""
        self._has_decided = True
        self.why_not = why_not if self._has_other_ranks else ""

    def tell(self, strategy: Strategy, loader: Any) -> None:
        """Say what the batches of a run are that goes on with another number of ranks."""
        if not self._has_other_ranks or not strategy.is_global_zero or self._world_size == self._saved_by:
            return
        if self.why_not:
            warn(f"{self.why_not}, so the global batches are others than they were.")
            return
        for sampler in _samplers_of(loader):
            say(
                f"trainkit: the global batch is kept: {sampler.batch.samples} samples, as on {sampler.batch.ranks} "
                f"rank(s) with {sampler.batch.size} each; on {self._world_size} rank 0 takes {sampler.own_size} of "
                "them. fit(..., take='batch_size') takes what the loader says, on each rank, from an epoch's end on.",
                err=True,
            )

    def require(self, path: str) -> None:
        """Raise `CheckpointError` unless a run can go on in the middle of an epoch, on another number of ranks."""
        if self._saved is None:
            reason = "the checkpoint does not tell what its global batches are made of"
        else:
            reason = self.why_not
        if reason:
            raise CheckpointError(
                f"{path} was saved by {self._saved_by} ranks in the middle of an epoch, and there are "
                f"{self._world_size} now, which cannot have the batches that were to come: {reason}.\n"
                f"    to do        continue with {self._saved_by}, or from a checkpoint of an epoch's end; or say\n"
                '                 fit(..., resume="next_epoch") (--resume-data next_epoch), which leaves out the rest'
            )

    def _decide(self, loaders: Sequence[Any], sizes: Sequence[int | None]) -> str:
        """Find out how the batches are kept; return why they cannot be."""
        assert self._saved is not None, "there is a checkpoint"
        ranks, before, world_size = self._saved["ranks"], self._saved["sizes"], self._world_size
        if self._takes_code:
            return "take='batch_size' takes the batch size of the code"
        if len(sizes) != len(before):
            return f"train_dataloader consists of {len(sizes)} loaders, and had {len(before)}"
        if why := _obstacle(loaders, sizes, before):
            return why
        pairs = [(size, was) for size, was in zip(sizes, before, strict=True) if size and was]
        self._asks_code = all(size * world_size == was * ranks for size, was in pairs)
        if not self._asks_code and any(size != was for size, was in pairs):
            wanted = " and ".join(str(was * ranks) for _, was in pairs)
            now = " and ".join(str(size * world_size) for size, _ in pairs)
            return f"{now} samples are a batch of {world_size} rank(s) now, and {wanted} were one of {ranks}"
        return ""


def _first_ranks_in(saved: Saved, ranks: int) -> list[int]:
    """Return the first of the ranks that have computed each part of a batch, of the ``ranks`` in a checkpoint."""
    first_ranks: list[int] = saved.get(_FIRST_RANKS, [*range(ranks)])
    if (
        len({*first_ranks}) < len(first_ranks)
        or (ranks and not first_ranks)
        or any(each >= ranks for each in first_ranks)
    ):
        raise CheckpointError(f"the checkpoint has {ranks} ranks, and says that {first_ranks} of them had the data.")
    return first_ranks


def _obstacle(loaders: Sequence[Any], sizes: Sequence[int | None], before: Sequence[int | None] = ()) -> str:
    """Return why batches of loaders cannot be dealt anew, or could not be ``before``; empty if they can."""
    for index, (loader, size) in enumerate(zip(loaders, sizes, strict=True)):
        if size is None or (before and before[index] is None):
            why = why_not(loader) or "it was a loader of another kind"
            return f"the batches of train_dataloader cannot be dealt anew: {why}"
    return ""


def _samplers_of(loader: Any) -> list[GlobalBatchSampler]:
    parts = loader.flattened if isinstance(loader, CombinedLoader) else [loader]
    return list(filter(None, map(sampler_of, parts)))


def _size_of(loader: Any) -> int | None:
    sizes = batch_sizes(loader, 1)
    return None if sizes is None else sizes.size
