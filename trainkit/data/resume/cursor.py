"""The position of a loader in its pass, and how a run that continues finds that place again.

A *pass* is one iteration over the loader: an epoch of training, or one validation. A position is the states of the
random generators when the pass began, and the number of batches given since: the same code, run again from these
states, arrives at the same place.
"""

from __future__ import annotations

import weakref
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import torch
from torch.utils.data import DataLoader

from trainkit.data.combined import batches_of
from trainkit.data.counter import ItemCounter
from trainkit.data.dataloader_copy import samplers_of
from trainkit.data.workers import end, start
from trainkit.errors import CheckpointError
from trainkit.seed import isolate_rng, rng_state, set_rng_state
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
    """

    def __init__(self, loader: Any, name: str) -> None:
        self.loader = loader
        self.name = name
        self.rng_at_start: dict[str, Any] | None = None
        self.epoch = 0
        self._given = ItemCounter()
        self._resume: dict[str, Any] | None = None  # the position from which the next pass continues
        self._newest_pass: Callable[[], Iterator[Batch] | None] = lambda: None

    def __iter__(self) -> Iterator[Batch]:
        resume, self._resume = self._resume, None
        # "began" is None where a pass over several loaders had begun that had not come to this one yet; see `rewind`.
        if resume is None or resume["began"] is None:
            self._given.set(0)
            # Before iter(loader), which draws a seed for workers.
            self.rng_at_start = {"global": rng_state(), "own": self.own_generators()}
            return self._given.wrap(self._begin())
        self.rng_at_start = resume["began"]
        self._given.set(resume["given"])
        # The generators already stand where training continues; finding the place must leave them there.
        with isolate_rng():
            set_rng_state(self.rng_at_start["global"])
            self.set_own_generators(self.rng_at_start["own"])
            batches = self._continue(resume["given"])
        # isolate_rng() knows the global generators only.
        self.set_own_generators(resume["own"])
        return self._given.wrap(batches)

    def __len__(self) -> int:
        return len(self.loader)

    @property
    def restored(self) -> bool:
        """Whether the next pass continues from a checkpoint."""
        return self._resume is not None

    def state_dict(self, ahead: int = 0) -> dict[str, Any]:
        """Return the position, for a checkpoint.

        Args:
            ahead: How many of the batches that the loader gave have not been consumed yet.
        """
        return {
            "kind": type(self).__name__,
            "began": self.rng_at_start,
            "given": max(self._given.passed - ahead, 0),
            "own": self.own_generators(),
        }

    def load_state_dict(self, state: dict[str, Any], *, mid_epoch: bool) -> None:
        """Restore a position.

        Args:
            state: What `state_dict` returned.
            mid_epoch: Whether the next pass continues at that position. Otherwise it is a new one, and only what
                outlives a pass is restored.

        Raises:
            CheckpointError: If the state is that of another kind of loader.
        """
        if state["kind"] != type(self).__name__:
            raise CheckpointError(
                f"{self.name} is a {type(self.loader).__name__}, whose place in an epoch is kept in another way "
                f"({type(self).__name__}) than that of the loader in the checkpoint ({state['kind']}). Resume with "
                "the same loader."
            )
        self.set_own_generators(state["own"])
        self._resume = state if mid_epoch and state["given"] else None

    def discard_restored(self) -> None:
        """Drop a restored position, so that the next pass is a new one."""
        self._resume = None

    def rewind(self) -> None:
        """Set the position to the beginning of a pass that has not reached this loader.

        A pass over several loaders has begun, one after the other perhaps. What this one did in the pass before must
        not go into a checkpoint as if it belonged to the new pass.
        """
        self.rng_at_start = None
        self._given.set(0)

    def record_before_look_ahead(self) -> None:
        """Record the state of the loader before the look-ahead batch is fetched, where the loader keeps a state."""

    def close(self) -> None:
        """End worker processes that outlive a pass, and those of a pass that was left before its end."""
        # An error that keeps the frames of the loop keeps the pass as well, with workers that may hang.
        end(self._newest_pass())

    def _start(self, loader: Iterable[Batch]) -> Iterator[Batch]:
        """Return ``iter(loader)``, with workers that `close` can end."""
        batches = start(loader)
        # A weak reference, so that the workers of a pass that nobody needs end with it.
        self._newest_pass = weakref.ref(batches) if isinstance(loader, DataLoader) else lambda: None
        return batches if type(batches).__module__.startswith("torch.utils.data.") else each(batches)

    def _begin(self) -> Iterator[Batch]:
        """Begin a new pass and return its batches."""
        return self._start(batches_of(self.loader))

    @abstractmethod
    def _continue(self, given: int) -> Iterator[Batch]:
        """Begin the pass again and return the batches after the first ``given``.

        Called with all generators as they were when the pass began; the caller puts them back.
        """

    def own_generators(self) -> list[torch.Tensor]:
        """Return the states of the generators that the user gave to the loader. Each of shape (bytes,), uint8."""
        return [generator.get_state() for generator in generators_of(self.loader)]

    def set_own_generators(self, states: list[torch.Tensor]) -> None:
        """Restore the states that `own_generators` returned."""
        # Not strict: the loader may have gained or lost a generator since the checkpoint. If that changes its order,
        # the checksum of the indices finds it.
        for generator, state in zip(generators_of(self.loader), states, strict=False):
            generator.set_state(state.cpu())


def each(batches: Iterator[Batch]) -> Iterator[Batch]:
    """Return an iterator over ``batches`` that shows, in a stack of calls, that one of them is being fetched."""
    yield from batches


def generators_of(loader: Any) -> list[torch.Generator]:
    """Return the generators that the user gave to a loader or its samplers; none twice."""
    # By identity: one generator is often shared by a loader and its sampler.
    owners = [loader, *samplers_of(loader)]
    found = [getattr(owner, "generator", None) for owner in owners]
    return list({id(each): each for each in found if isinstance(each, torch.Generator)}.values())


def refuse_other_data(name: str, saved: dict[str, Any], **now: Any) -> None:
    """Raise `CheckpointError` unless a loader has the same size as the one in the checkpoint.

    Args:
        name: What errors call the loader.
        saved: The position in the checkpoint.
        now: What has to be equal in it, such as ``samples`` and ``batch_size``, as the loader has it now.
    """
    for what, value in now.items():
        if saved[what] != value:
            raise CheckpointError(
                f"{name} has {what}={value}, and the run that is to be continued had {saved[what]}: in the middle of "
                "an epoch it cannot go on with other data. Resume with the same loader, or from the end of an epoch."
            )


def draws_other_samples(name: str) -> CheckpointError:
    """Return the error for a sampler that gives other indices when it is run again."""
    return CheckpointError(
        f"{name} draws other samples than in the run that is to be continued, so it cannot go on in the middle of its "
        "epoch. Its sampler may draw random numbers from somewhere that a checkpoint does not hold, or it changed. "
        "Give it a torch.Generator as `generator`, or resume from the end of an epoch."
    )
