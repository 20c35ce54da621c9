"""Random numbers: seeding all generators, reading and restoring their states."""

from __future__ import annotations

import os
import random
from array import array
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from trainkit.checks import whole

MAX_SEED = 2**32 - 1


def seed_everything(seed: int, workers: bool = False) -> int:
    """Seed torch (every device), numpy and random.

    Args:
        seed: From 0 to 2**32 - 1.
        workers: Accepted because Lightning has it. Workers of a fit are always seeded from the run's own generators.

    Returns:
        The seed.

    Raises:
        ConfigError: If ``seed`` is not a whole number in the range that numpy takes.
    """
    whole("seed", seed, at_most=MAX_SEED)
    # Child processes, such as those of torchrun, find the seed here.
    os.environ["TRAINKIT_SEED"] = str(seed)
    random.seed(seed)
    _numpy_random().seed(seed)
    torch.manual_seed(seed)
    return seed


def rng_state() -> dict[str, Any]:
    """Return the states of all generators, as tensors and plain values that load with ``weights_only=True``."""
    return _storable(_states())


def set_rng_state(state: dict[str, Any]) -> None:
    """Put all generators where `rng_state` found them. States of devices that are not here are left out."""
    torch.set_rng_state(state["torch"].cpu())
    version, internal, gauss = state["random"]
    random.setstate((version, tuple(internal.tolist() if isinstance(internal, Tensor) else internal), gauss))
    name, keys, *place = state["numpy"]
    _numpy_random().set_state((name, keys.cpu().numpy().astype("uint32") if isinstance(keys, Tensor) else keys, *place))
    if "cuda" in state and torch.cuda.is_available():
        for device, cuda_state in enumerate(state["cuda"][: torch.cuda.device_count()]):
            torch.cuda.set_rng_state(cuda_state.cpu(), device)
    if "mps" in state and torch.backends.mps.is_available():
        torch.mps.set_rng_state(state["mps"].cpu())


def same_rng_state(one: dict[str, Any], other: dict[str, Any]) -> bool:
    """Whether the generators of the CPU, from which loaders draw, are in the same place in two states."""
    return all(_same(one[name], other[name]) for name in ("torch", "random", "numpy"))


class RandomStream:
    """Random numbers of its own for something that runs in turn with other things that draw.

    Args:
        state: Where the stream begins, as `rng_state` gave it.
    """

    def __init__(self, state: dict[str, Any]) -> None:
        self._states = state

    @property
    def state(self) -> dict[str, Any]:
        """Where it is, in the form of `rng_state`."""
        return _storable(self._states)

    @classmethod
    def branch(cls, salt: int) -> RandomStream:
        """Return a stream that begins apart from where all generators are now, for each ``salt`` elsewhere.

        Nothing is drawn by it. A stream that began where the generators are would give, while they stand still, the
        same numbers again, and what others draw would be no stranger to it.
        """
        with isolate_rng():
            drawn = int(torch.randint(MAX_SEED, ())) ^ random.getrandbits(32) ^ int(_numpy_random().randint(2**31))
            seed = (drawn + salt * 0x9E3779B1) & MAX_SEED
            random.seed(seed)
            _numpy_random().seed(seed)
            # Not those of devices, which would be initialised by it.
            torch.default_generator.manual_seed(seed)
            return cls(_states())

    @contextmanager
    def active(self) -> Iterator[None]:
        """Draw from this stream inside; everything else goes on outside as if nothing had been drawn."""
        outer = _states()
        set_rng_state(self._states)
        try:
            yield
        finally:
            self._states = _states()
            set_rng_state(outer)


@contextmanager
def isolate_rng(isolated: bool = True) -> Iterator[None]:
    """Run something that draws random numbers, and leave all generators as they were, unless not ``isolated``."""
    state = _states() if isolated else None
    try:
        yield
    finally:
        if state is not None:
            set_rng_state(state)


def _states() -> dict[str, Any]:
    """Return the states as the generators give them: what is put back soon is not converted there and back."""
    states: dict[str, Any] = {
        "torch": torch.get_rng_state(),
        "random": random.getstate(),
        "numpy": _numpy_random().get_state(),
    }
    if torch.cuda.is_available() and torch.cuda.is_initialized():  # type: ignore[no-untyped-call]  # torch's own
        states["cuda"] = torch.cuda.get_rng_state_all()
    if torch.backends.mps.is_available():
        states["mps"] = torch.mps.get_rng_state()
    return states


def _storable(states: dict[str, Any]) -> dict[str, Any]:
    version, internal, gauss = states["random"]
    name, keys, position, has_gauss, cached = states["numpy"]
    # As Python gives it, random's state is a tuple of 625 numbers, each of which is looked at when it is saved, and a
    # checkpoint has several states. A state from an early checkpoint still has that form.
    if not isinstance(internal, Tensor):
        internal = torch.frombuffer(array("q", internal), dtype=torch.int64)
    if not isinstance(keys, Tensor):
        keys = torch.from_numpy(keys.astype("int64"))
    numpy_state = (name, keys, int(position), int(has_gauss), float(cached))
    return {**states, "random": (version, internal, gauss), "numpy": numpy_state}


def _same(one: Any, other: Any) -> bool:
    if isinstance(one, tuple):
        return all(map(_same, one, other))
    return torch.equal(one, other) if isinstance(one, Tensor) else bool(one == other)


def _numpy_random() -> Any:
    import numpy as np  # torch works without it; data loading seldom does

    return np.random
