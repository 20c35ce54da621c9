"""Random numbers: seeding all generators, reading and restoring their states.

"All generators" are the global ones of torch (the CPU's and each device's), numpy and `random`.
"""

from __future__ import annotations

import os
import random
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import cache
from numbers import Integral
from typing import Any
from zlib import crc32

import torch
from torch import Tensor

from trainkit.checks import whole
from trainkit.errors import StateError
from trainkit.generators import NumpyRandom, PythonRandom, Twister

MAX_SEED = 2**32 - 1
"""The largest seed that numpy takes."""

States = tuple[Tensor, Twister, Twister, dict[str, Any]]
"""The states of all generators as they are exchanged fastest: of torch, `random` and numpy, and those of devices."""

_MOST_DIGITS = 100


def seed_everything(seed: int | str, workers: bool = False) -> int:
    """Seed torch (every device), numpy and random.

    Args:
        seed: From 0 to 2**32 - 1. One of numpy's whole numbers, or its digits as a command line gives them, will do.
        workers: Accepted because Lightning has it. Workers of a fit are always seeded from the run's own generators.

    Returns:
        The seed.

    Raises:
        ConfigError: If ``seed`` is not a whole number in the range that numpy takes.
    """
    if isinstance(seed, Integral | str) and _is_readable(seed):
        seed = int(seed)
    whole("seed", seed, at_most=MAX_SEED)
    assert isinstance(seed, int)
    # For processes that this one starts.
    os.environ["TRAINKIT_SEED"] = str(seed)
    random.seed(seed)
    _numpy_random().seed(seed)
    torch.manual_seed(seed)
    return seed


def _is_readable(seed: Any) -> bool:
    # Python makes no number of thousands of digits, and no digits of such a number.
    return len(seed) <= _MOST_DIGITS and seed.isdecimal() if isinstance(seed, str) else not isinstance(seed, bool)


def rng_state() -> dict[str, Any]:
    """Return the states of all generators, as tensors and plain values that load with ``weights_only=True``."""
    return storable(_read())


def set_rng_state(state: dict[str, Any]) -> None:
    """Restore the states that `rng_state` returned. Those of devices that do not exist here are left out.

    Raises:
        StateError: If it is no such state.
    """
    try:
        _set_states(state)
    except (LookupError, OverflowError, RuntimeError, TypeError, ValueError) as error:
        raise StateError(f"no state of random numbers: {error}") from error


def same_rng_state(one: dict[str, Any], other: dict[str, Any]) -> bool:
    """Return whether the generators of the CPU, from which loaders draw, have the same state in both."""
    return all(_same(one[name], other[name]) for name in ("torch", "random", "numpy"))


def rng_checksums() -> dict[str, int]:
    """Return a number for the state of each kind of generator of the CPU: "torch", "random" and "numpy"."""
    torch_state, python_state, numpy_state, _ = _read()
    return {
        "torch": crc32(torch_state.numpy().tobytes()),
        "random": crc32(repr(python_state).encode()),
        "numpy": crc32(repr(numpy_state).encode()),
    }


def move_rng(names: Iterable[str], salt: int) -> None:
    """Seed the generators of ``names`` from the state that each has now, and from ``salt``.

    Args:
        names: Some of those of `rng_checksums`. Those of devices go with "torch".
        salt: From one state, another salt leads to other numbers.
    """
    checksums = rng_checksums()
    for name in names:
        # Knuth's multiplier, near 2**32 divided by the golden ratio, spreads salts 0, 1, 2, ... over all 32 bits.
        seed = (checksums[name] + salt * 0x9E3779B1) & MAX_SEED
        if name == "torch":
            torch.manual_seed(seed)
        elif name == "random":
            random.seed(seed)
        else:
            _numpy_random().seed(seed)


class RandomStream:
    """States of all generators for something that draws, alternating with others that must not notice it.

    Inside a ``with`` block the generators go on from the states that the stream has reached; after it they are as they
    were before. Used for a batch that is loaded ahead of its turn: the step draws what it would draw without it.

    Args:
        states: The states from which the stream begins.

    Attributes:
        states: The states that it has reached. They are never changed in place.
    """

    __slots__ = ("_outside", "states")

    def __init__(self, states: States) -> None:
        self.states = states

    @classmethod
    def from_state(cls, state: dict[str, Any]) -> RandomStream:
        """Return a stream that begins with ``state``, which `storable` or `rng_state` returned.

        Raises:
            StateError: If it is no such state.
        """
        with isolate_rng():
            set_rng_state(state)
            return cls(_read())

    @classmethod
    def branch(cls, salt: int) -> RandomStream:
        """Return a new stream, seeded from the present states of all generators and from ``salt``.

        The generators themselves stay where they are. A stream that began with their states would repeat the numbers
        that others draw from them next, and be the same in each epoch in which nobody draws from them.

        Args:
            salt: Tells streams apart that branch off the same states, such as the index of the epoch.
        """
        with isolate_rng():
            drawn = int(torch.randint(MAX_SEED, ())) ^ random.getrandbits(32) ^ int(_numpy_random().randint(2**31))
            # Knuth's multiplier, near 2**32 divided by the golden ratio, spreads salts 0, 1, 2, ... over all 32 bits.
            seed = (drawn + salt * 0x9E3779B1) & MAX_SEED
            random.seed(seed)
            _numpy_random().seed(seed)
            # Not torch.manual_seed: for devices that are not initialized yet it leaves a seed that nothing would undo.
            torch.default_generator.manual_seed(seed)
            return cls(_read())

    def __enter__(self) -> None:
        self._outside = _exchange(self.states)

    def __exit__(self, *error: object) -> None:
        self.states = _exchange(self._outside)


@contextmanager
def isolate_rng(isolated: bool = True) -> Iterator[None]:
    """Restore the states of all generators after the block, whatever was drawn in it.

    Args:
        isolated: Whether to do so; False makes this a block like any other.
    """
    states = _read() if isolated else None
    try:
        yield
    finally:
        if states is not None:
            _exchange(states)


def storable(states: States) -> dict[str, Any]:
    """Return the states of a stream in the form of a checkpoint: tensors and plain values only."""
    torch_state, python_state, numpy_state, devices = states
    # Python gives random's state as a tuple of 625 ints. `check_storable` would look at each of them in every save,
    # which took half of the time of a small one; hence tensors.
    return {
        "torch": torch_state,
        "random": _python_random().storable(python_state),
        "numpy": _numpy_generator().storable(numpy_state),
        **devices,
    }


def _read() -> States:
    return torch.default_generator.get_state(), _python_random().read(), _numpy_generator().read(), _device_states()


def _exchange(states: States) -> States:
    """Let all generators go on from ``states``; return where they were."""
    torch_state, python_state, numpy_state, devices = states
    torch_generator = torch.default_generator
    before = (
        torch_generator.get_state(),
        _python_random().exchange(python_state),
        _numpy_generator().exchange(numpy_state),
        _device_states(),
    )
    torch_generator.set_state(torch_state)
    if devices:
        _set_device_states(devices)
    return before


def _device_states() -> dict[str, Any]:
    states: dict[str, Any] = {}
    # Asking for a state would initialize CUDA, with a context of some hundred megabytes on every device. Before that,
    # nobody has drawn there.
    if torch.cuda.is_initialized():  # type: ignore[no-untyped-call]  # torch's own
        states["cuda"] = torch.cuda.get_rng_state_all()
    if _has_mps():
        states["mps"] = torch.mps.get_rng_state()
    return states


@cache
def _has_mps() -> bool:
    # Asked twice for each batch of a loader without length, and always answered alike.
    return torch.backends.mps.is_available()


def _set_device_states(state: dict[str, Any]) -> None:
    if "cuda" in state and torch.cuda.is_available():
        for device, cuda_state in enumerate(state["cuda"][: torch.cuda.device_count()]):
            torch.cuda.set_rng_state(cuda_state.cpu(), device)
    if "mps" in state and torch.backends.mps.is_available():
        torch.mps.set_rng_state(state["mps"].cpu())


def _set_states(state: dict[str, Any]) -> None:
    """Set states in the form of a checkpoint, by the functions that refuse what is none."""
    torch.set_rng_state(state["torch"].cpu())
    # In older checkpoints random's words are a tuple of numbers.
    version, internal, gauss = state["random"]
    random.setstate((version, tuple(internal.tolist() if isinstance(internal, Tensor) else internal), gauss))
    name, keys, *place = state["numpy"]
    _numpy_random().set_state((name, keys.cpu().numpy().astype("uint32") if isinstance(keys, Tensor) else keys, *place))
    _set_device_states(state)


def _same(one: Any, other: Any) -> bool:
    """Return whether two states of one generator are equal; == of tuples fails on the tensors in them."""
    if isinstance(one, tuple):
        return all(map(_same, one, other))
    return torch.equal(one, other) if isinstance(one, Tensor) else bool(one == other)


@cache
def _python_random() -> PythonRandom:
    return PythonRandom()


@cache
def _numpy_generator() -> NumpyRandom:
    return NumpyRandom()


def _numpy_random() -> Any:
    import numpy as np  # torch works without it; data loading seldom does

    return np.random
