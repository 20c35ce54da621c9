"""The position of a loader in its pass, and how a run that continues finds that place again.

A *pass* is one iteration over the loader: an epoch of training, or one validation. A position is the states of the
random generators when the pass began, and the number of batches given since: the same code, run again from these
states, arrives at the same place.
"""

from __future__ import annotations

import weakref
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator
from inspect import GEN_CREATED, getgeneratorstate, isgenerator
from itertools import chain, islice
from typing import Any

import torch
from torch.utils.data import DataLoader

from trainkit.data.combined import batches_of
from trainkit.data.counter import ItemCounter
from trainkit.data.dataloader_copy import samplers_of
from trainkit.data.resume.content import content_of
from trainkit.data.resume.other_data import gives_other_data, other_data, warn_inexact
from trainkit.data.workers import end, start
from trainkit.errors import CheckpointError, StateError
from trainkit.seed import isolate_rng, move_rng, rng_checksums, rng_state, set_rng_state
from trainkit.types import Batch


class Cursor(ABC):
    """One loader and its position. Iterating begins a pass, or continues the one that was restored from a checkpoint.

    Its class name is saved in checkpoints, as the kind of the position.

    Args:
        loader: The loader.
        name: What errors call it.

    Attributes:
        rng_at_start: The states of all generators when the pass began: ``global`` as `rng_state` gives them, ``own``
            those that the user gave to the loader. None before the first pass.
        epoch: The index of the epoch, which goes into the seeds of workers.
        tolerant: Whether the pass goes on inexactly, with a warning, where the data are not those of the checkpoint.
        draws_in_turn: Whether others draw from the global generators between two batches of the loader.
    """

    def __init__(self, loader: Any, name: str) -> None:
        self.loader = loader
        self.name = name
        self.rng_at_start: dict[str, Any] | None = None
        self.epoch = 0
        self.draws_in_turn = True
        self.tolerant = False
        self._given = ItemCounter()
        self._ended = False  # whether the pass has come to its end
        self._begun = 0  # passes over this loader within one over several loaders, in which it may be started again
        self._resume: dict[str, Any] | None = None  # the position from which the next pass continues
        self._newest_pass: Callable[[], Iterator[Batch] | None] = lambda: None
        self._fresh_pass: Callable[[], Iterator[Batch] | None] = lambda: None  # the same, if none other goes on with it
        self._is_inexact = False  # whether that position is one in other data
        self._replay: dict[str, Any] | None = None  # the position to which all loaders are being replayed together

    def __iter__(self) -> Iterator[Batch]:
        resume, self._resume = self._resume, None
        self._ended = False
        self._begun += 1
        # "began" is None where a pass over several loaders had begun that had not come to this one yet; see `rewind`.
        if resume is None or resume["began"] is None:
            self._given.set(0)
            self._note_rng_at_start()
            return self._counted(self._begin())
        return self._continued(resume)

    def _note_rng_at_start(self) -> None:
        """Note the random numbers with which a pass begins; where it is replayed, set them to those of that pass."""
        replay = self._replay
        if replay is not None and replay["began"] is not None and replay.get("begun", 1) == self._begun:
            self._replay = None
            self.rng_at_start = replay["began"]
            set_rng_state(self.rng_at_start["global"])
            self.set_own_generators(self.rng_at_start["own"])
        else:
            # Before iter(loader), which draws a seed for workers.
            self.rng_at_start = {"global": rng_state(), "own": self.own_generators()}

    def _continued(self, resume: dict[str, Any]) -> Iterator[Batch]:
        """Return the batches that come after the position ``resume``."""
        self.rng_at_start = resume["began"]
        self._given.set(resume["given"])
        self._begun = resume.get("begun", 1)
        if resume.get("has_ended", False):
            # A sampler that is run into its end once more would draw once more.
            self._ended = True
            self._abandon_pass()
            return iter(())
        if self._is_inexact:
            return self._skipped(resume)
        # The generators already stand where training continues; finding the place must leave them there.
        try:
            with isolate_rng():
                set_rng_state(self.rng_at_start["global"])
                self.set_own_generators(self.rng_at_start["own"])
                batches = self._continue(resume["given"])
        except CheckpointError as error:
            if not self.tolerant:
                raise
            self._tolerate(error)
            self.set_own_generators(resume["own"])
            return self._skipped(resume)
        # isolate_rng() knows the global generators only.
        self.set_own_generators(resume["own"])
        return self._counted(batches)

    def __len__(self) -> int:
        return len(self.loader)

    @property
    def restored(self) -> bool:
        """Whether the next pass continues from a checkpoint."""
        return self._resume is not None

    def state_dict(self, under_way: int = 0) -> dict[str, Any]:
        """Return the position, for a checkpoint.

        Args:
            under_way: 1 if the batch that was given last is still to be consumed, else 0.
        """
        return {
            "kind": type(self).__name__,
            "began": self.rng_at_start,
            # One of several loaders that is at its end has given nothing to the batch that is under way.
            "given": max(self._given.passed - under_way * (not self._ended), 0),
            "own": self.own_generators(),
            "has_ended": self._ended,
            "begun": self._begun,
        }

    def load_state_dict(self, state: dict[str, Any], *, mid_epoch: bool) -> None:
        """Restore a position.

        Args:
            state: What `state_dict` returned.
            mid_epoch: Whether the next pass continues at that position. Otherwise it is a new one, and only what
                outlives a pass is restored.

        Raises:
            CheckpointError: If the state is that of another loader, unless the cursor is `tolerant`.
        """
        self._is_inexact = False
        self.set_own_generators(state["own"])
        # One of several loaders may have been started anew, and given nothing yet.
        self._resume = state if mid_epoch and (state["given"] or state["began"] is not None) else None
        try:
            if state["kind"] != type(self).__name__:
                raise other_data(
                    f"{self.name} is a {type(self.loader).__name__}, whose place in an epoch is kept in another way "
                    f"({type(self).__name__}) than that of the loader in the checkpoint ({state['kind']})."
                )
            self._restore(state, mid_epoch=mid_epoch)
            # Older checkpoints have no "content", and there is none where the data cannot be looked at.
            if mid_epoch and state.get("content") not in (None, content_of(self.loader)):
                raise gives_other_data(self.name)
        except CheckpointError as error:
            if not self.tolerant:
                raise
            self._tolerate(error, is_told=mid_epoch)

    def discard_restored(self) -> None:
        """Drop a restored position, so that the next pass is a new one."""
        self._resume = None

    def replay(self, state: dict[str, Any]) -> None:
        """Begin anew, together with other loaders, on the way to the position ``state``.

        A loader that was started more than once draws from the random numbers with which its newest pass began.
        """
        self.discard_restored()
        self.rewind()
        self._replay = state

    def check_replay(self, state: dict[str, Any]) -> None:
        """Raise `CheckpointError` if what was replayed is not what led to the position ``state``."""
        self._replay = None
        if state["began"] is not None and not self._is_inexact:
            try:
                self._require(state)
            except CheckpointError as error:
                if not self.tolerant:
                    raise
                self._tolerate(error)

    def may_have_more(self, promised: int) -> bool:
        """Whether a pass may have more than the ``promised`` batches, of which `has_more` then tells."""
        return False

    def has_more(self) -> bool:
        """Whether there are more batches than were given, which is told without loading any."""
        return not self._ended and self._given.passed < len(self.loader)

    def goes_on(self) -> bool:
        """Whether there is a batch behind the promised ones, which all were given; it is loaded, and lost.

        False where nobody may look: what has a state, or is one stream for all passes, would miss that batch.
        """
        return False

    @property
    def may_draw(self) -> bool:
        """Whether the process of the training may draw random numbers for a batch behind the first one of a pass."""
        return True

    @property
    def is_told_by_count(self) -> bool:
        """Whether every position in a pass has the state of its end, but for the number of batches given."""
        return False

    @property
    def was_restarted(self) -> bool:
        """Whether, in a pass over several loaders, this one was started again after its end."""
        return self._begun > 1

    def known_samples(self, ahead: int) -> int | None:
        """Return of how many samples a batch was made, or None if that is not known: the newest but ``ahead``."""
        if not isinstance(self.loader, DataLoader):
            return None
        # Of a stream nobody knows its end, where a batch may be short.
        return self.loader.batch_size if self.loader.batch_size == 1 or self.loader.drop_last else None

    def known_indices(self, ahead: int) -> list[Any] | None:
        """Return the indices of which a batch was made, or None if they are not known: the newest but ``ahead``."""
        return None

    def rewind(self) -> None:
        """Set the position to the beginning of a pass that has not reached this loader.

        A pass over several loaders has begun, one after the other perhaps. What this one did in the pass before must
        not go into a checkpoint as if it belonged to the new pass.
        """
        self.rng_at_start = None
        self._given.set(0)
        self._ended = False
        self._begun = 0

    def close(self) -> None:
        """End worker processes that outlive a pass, and those of a pass that was left before its end."""
        # An error that keeps the frames of the loop keeps the pass as well, with workers that may hang.
        end(self._newest_pass())

    def _start(self, loader: Iterable[Batch]) -> Iterator[Batch]:
        """Return ``iter(loader)``, with workers that `close` can end."""
        batches = start(loader)
        # A weak reference, so that the workers of a pass that nobody needs end with it.
        self._newest_pass = weakref.ref(batches) if hasattr(batches, "_shutdown_workers") else lambda: None
        is_of_torch = type(batches).__module__.startswith("torch.utils.data.")
        # An iterator of the user's own may be one for all passes.
        is_fresh = is_of_torch or (isgenerator(batches) and getgeneratorstate(batches) == GEN_CREATED)
        shown = batches if is_of_torch else each(batches)
        self._fresh_pass = weakref.ref(shown) if is_fresh else lambda: None
        return shown

    def _restore(self, state: dict[str, Any], *, mid_epoch: bool) -> None:
        """Restore what this kind of loader has besides, or raise `CheckpointError` if it is another one."""

    def _require(self, state: dict[str, Any]) -> None:
        """Raise `CheckpointError` if the pass that has begun is not the one of the position ``state``."""

    def _tolerate(self, error: CheckpointError, *, is_told: bool = True) -> None:
        """Go on inexactly in spite of ``error``."""
        self._is_inexact = True
        if is_told:
            warn_inexact(error)

    def _skipped(self, position: dict[str, Any]) -> Iterator[Batch]:
        """Begin a new pass, and return what comes after as many batches as were given."""
        self.rng_at_start = {"global": rng_state(), "own": self.own_generators()}
        return self._counted(self._begin_at(position["given"]))

    def _begin_at(self, given: int) -> Iterator[Batch]:
        """Begin a new pass and return its batches after the first ``given``."""
        return islice(self._begin(), given, None)

    def _begin(self) -> Iterator[Batch]:
        """Begin a new pass and return its batches."""
        return self._start(batches_of(self.loader))

    @abstractmethod
    def _continue(self, given: int) -> Iterator[Batch]:
        """Begin the pass again and return the batches after the first ``given``.

        Called with all generators as they were when the pass began; the caller puts them back.
        """

    def _abandon_pass(self) -> None:
        """Leave the pass that was restored, of which nothing is to come."""

    def _counted(self, batches: Iterator[Batch]) -> Iterator[Batch]:
        return chain(self._given.wrap(batches), self._at_end())

    def _at_end(self) -> Iterator[Batch]:
        """Note that the loader has given its last batch; give nothing."""
        self._ended = True
        yield from ()

    def _at_first_draw(self) -> None:
        """Put the generators where they stood when this pass first drew, or record where they stand."""
        # Many draw at their first batch and not in iter(), and what was drawn in between differs: when the pass began,
        # other loaders drew too; when a place is found again, they do not.
        start = self.rng_at_start
        assert start is not None
        if "first_draw" in start:
            set_rng_state(start["first_draw"])
            self.set_own_generators(start.get("own_first_draw", []))
        else:
            self._record_first_draw(start)

    def _record_first_draw(self, rng_at_start: dict[str, Any]) -> None:
        # Into the dictionary itself, which goes into checkpoints; a second stream of the same pass changes nothing.
        if "first_draw" not in rng_at_start:
            rng_at_start |= {"first_draw": rng_state(), "own_first_draw": self.own_generators()}

    def own_generators(self) -> list[torch.Tensor]:
        """Return the states of the generators that the user gave to the loader. Each of shape (bytes,), uint8."""
        return [generator.get_state() for generator in generators_of(self.loader)]

    def set_own_generators(self, states: list[torch.Tensor]) -> None:
        """Restore the states that `own_generators` returned."""
        # Not strict: the loader may have gained or lost a generator since the checkpoint. If that changes its order,
        # the checksum of the indices finds it.
        for generator, state in zip(generators_of(self.loader), states, strict=False):
            try:
                generator.set_state(state.cpu())
            except (RuntimeError, TypeError) as error:
                raise StateError(f"no state of a generator of {self.name}: {error}") from error


def saved_by(position: dict[str, Any]) -> tuple[int, int] | None:
    """Return by which rank of how many ``position`` was saved, if that was another number than there are now."""
    rank = position.get("saved_by")
    return None if rank is None else (rank[0], rank[1])


def moved(position: dict[str, Any], rank: int, world_size: int, *, new: int | None) -> dict[str, Any]:
    """Return ``position`` as that of a rank among another number of ranks, whose batches are parts of the same ones.

    Args:
        position: What `Cursor.state_dict` gave.
        rank: By which rank it was saved.
        world_size: Of how many.
        new: The number of the rank that goes on with it, if that was not there; else None. Its workers draw random
            numbers of their own.
    """
    position = {**position, "saved_by": position.get("saved_by") or [rank, world_size]}
    if new is not None and position["began"] is not None:
        with isolate_rng():
            set_rng_state(position["began"]["global"])
            move_rng(rng_checksums(), new)
            # What the samplers drew first is that of all ranks.
            position["began"] = {**position["began"], "global": rng_state()}
    return position


def each(batches: Iterator[Batch]) -> Iterator[Batch]:
    """Return an iterator over ``batches`` that shows, in a stack of calls, that one of them is being fetched."""
    yield from batches


def generators_of(loader: Any) -> list[torch.Generator]:
    """Return the generators that the user gave to a loader or its samplers; none twice."""
    owners = [loader, *samplers_of(loader)]
    # What is dealt to ranks is drawn by the user's sampler, or by the sampler within the user's batch sampler.
    for owner in owners[1:]:
        inner = getattr(owner, "sampler", None)
        owners += (inner, getattr(inner, "sampler", None))
    found = [getattr(owner, "generator", None) for owner in owners]
    # One generator is often shared by a loader and its sampler.
    return list(dict.fromkeys(each for each in found if isinstance(each, torch.Generator)))
