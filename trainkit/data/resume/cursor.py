"""Where a loader stands in its pass, and how a run that continues finds that place again."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import Any

import torch

from trainkit.data.combined import batches_of
from trainkit.data.counter import Tally
from trainkit.data.dataloader_copy import samplers_of
from trainkit.errors import CheckpointError
from trainkit.seed import isolate_rng, rng_state, set_rng_state
from trainkit.types import Batch


class Cursor(ABC):
    """One loader, and where it stands in its pass. Iterating begins a pass, or goes on with the one that was restored.

    Args:
        loader: The loader.
        name: What errors call it.

    Attributes:
        began: The states of all generators when the pass began; None before the first one.
        epoch: Goes into the seeds of workers.
    """

    def __init__(self, loader: Any, name: str) -> None:
        self.loader = loader
        self.name = name
        self.began: dict[str, Any] | None = None
        self.epoch = 0
        self._given = Tally()
        self._resume: dict[str, Any] | None = None

    def __iter__(self) -> Iterator[Batch]:
        resume, self._resume = self._resume, None
        if resume is None or resume["began"] is None:
            self._given.set(0)
            self.began = self._generators()
            return self._given.of(self._begin())
        self.began = resume["began"]
        self._given.set(resume["given"])
        # The random numbers that training goes on with have been restored already.
        with isolate_rng():
            set_rng_state(self.began["global"])
            self.set_own_generators(self.began["own"])
            batches = self._continue(resume["given"])
        self.set_own_generators(resume["own"])
        return self._given.of(batches)

    def __len__(self) -> int:
        return len(self.loader)

    @property
    def restored(self) -> bool:
        """Whether the next pass goes on where another run stood."""
        return self._resume is not None

    def state_dict(self, ahead: int = 0) -> dict[str, Any]:
        """Return the position.

        Args:
            ahead: How many of the batches that were given nobody has consumed yet.
        """
        return {
            "kind": type(self).__name__,
            "began": self.began,
            "given": max(self._given.passed - ahead, 0),
            "own": self.own_generators(),
        }

    def load_state_dict(self, state: dict[str, Any], *, mid_epoch: bool) -> None:
        """Let the next pass go on where ``state`` says; unless ``mid_epoch``, a new one begins.

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

    def forget(self) -> None:
        """Let the next pass be a new one."""
        self._resume = None

    def rewind(self) -> None:
        """Stand at the beginning: a pass over several loaders has begun that has not come to this one yet."""
        self.began = None
        self._given.set(0)

    def mark(self) -> None:
        """Note where the loader stands: the next batch is loaded ahead of its turn."""

    def close(self) -> None:
        """End worker processes that outlive a pass."""

    def _begin(self) -> Iterator[Batch]:
        """Begin a pass."""
        return iter(batches_of(self.loader))

    @abstractmethod
    def _continue(self, given: int) -> Iterator[Batch]:
        """Begin a pass, and find the place behind ``given`` batches."""

    def _generators(self) -> dict[str, Any]:
        return {"global": rng_state(), "own": self.own_generators()}

    def own_generators(self) -> list[torch.Tensor]:
        """Return the states of the generators that the user gave to the loader."""
        return [generator.get_state() for generator in generators_of(self.loader)]

    def set_own_generators(self, states: list[torch.Tensor]) -> None:
        """Put them where `own_generators` found them."""
        for generator, state in zip(generators_of(self.loader), states, strict=False):
            generator.set_state(state.cpu())


def generators_of(loader: Any) -> list[torch.Generator]:
    """Return the generators that the user gave to a loader or its samplers; none twice."""
    owners = [loader, *samplers_of(loader)]
    found = [getattr(owner, "generator", None) for owner in owners]
    return list({id(each): each for each in found if isinstance(each, torch.Generator)}.values())


def refuse_other_data(name: str, saved: dict[str, Any], **now: Any) -> None:
    """Raise `CheckpointError` unless a loader has what the one in the checkpoint had."""
    for what, value in now.items():
        if saved[what] != value:
            raise CheckpointError(
                f"{name} has {what}={value}, and the run that is to be continued had {saved[what]}: in the middle of "
                "an epoch it cannot go on with other data. Resume with the same loader, or from the end of an epoch."
            )


def draws_other_samples(name: str) -> CheckpointError:
    """Say that a sampler, run again, gives something else."""
    return CheckpointError(
        f"{name} draws other samples than in the run that is to be continued, so it cannot go on in the middle of its "
        "epoch. Its sampler may draw random numbers from somewhere that a checkpoint does not hold, or it changed. "
        "Give it a torch.Generator as `generator`, or resume from the end of an epoch."
    )
