"""The global generators of `random` and numpy, whose states are copied as bytes, where they lie in memory.

Their own functions make a Python number of each of 624 words: 16 us for a state of `random`, 45 us for one of numpy, of
which a batch of a stream needs four. A copy of the bytes takes 0.1 us. Both are a Mersenne Twister of 32 bits: its
words, and the place of the next one.

Source: ``docs/design/0006-samplers-and-seeds.md``.
"""

from __future__ import annotations

import random
import sys
from array import array
from ctypes import Array, c_char
from typing import Any

import torch
from torch import Tensor

SIZE = 4 * (624 + 1)
"""How many bytes the words and the place among them take."""

Twister = tuple[bytes, float | None]
"""A state: words and place, as they lie in memory; and the normal number that waits for the next call, if one does."""


class PythonRandom:
    """The generator of `random`; the place comes ahead of the words."""

    def __init__(self) -> None:
        self._random: Any = random.getstate.__self__  # type: ignore[attr-defined]  # the hidden instance
        self._memory: Array[c_char] | None = None
        # No other Python says where its objects lie. The C structure is not promised, so it is compared with what is.
        if sys.implementation.name == "cpython" and type(self._random).__basicsize__ >= object.__basicsize__ + SIZE:
            memory = _memory_at(id(self._random) + object.__basicsize__)
            self._memory = memory if memory.raw == self._ask()[0] else None

    def read(self) -> Twister:
        """Return the state."""
        if self._memory is None:
            return self._ask()
        return self._memory.raw, self._random.gauss_next

    def exchange(self, state: Twister) -> Twister:
        """Go on from ``state``, which `read` returned; return the state until now."""
        if self._memory is None:
            before = self._ask()
            place, *rest = array("I", state[0])
            self._random.setstate((self._random.VERSION, (*rest, place), state[1]))
        else:
            before = self._memory.raw, self._random.gauss_next
            self._memory.raw, self._random.gauss_next = state
        return before

    def storable(self, state: Twister) -> tuple[int, Tensor, float | None]:
        """Return ``state`` as `random.getstate` does, with a tensor in place of 625 numbers: shape (625,), int64."""
        words, gauss = state
        # There the place comes last.
        return self._random.VERSION, _as_tensor(words[4:] + words[:4]), gauss

    def _ask(self) -> Twister:
        _, internal, gauss = self._random.getstate()
        return array("I", (internal[-1], *internal[:-1])).tobytes(), gauss


class NumpyRandom:
    """The generator behind the functions of `numpy.random`; the words come ahead of the place."""

    def __init__(self) -> None:
        import numpy as np  # torch works without it; data loading seldom does

        self._numpy: Any = np.random
        self._bits: Any = None
        self._memory: Array[c_char] | None = None
        self._known: Twister | None = None  # the newest state that was read or written

    def read(self) -> Twister:
        """Return the state."""
        if self._bits is None or self._bits is not self._numpy.get_bit_generator():
            self._find_memory()
        if self._memory is None:
            return self._ask()
        known, words = self._known, self._memory.raw
        # The number that waits does not lie there, and asking for it takes as long as for the whole state. A draw makes
        # one wait only where it moves the words as well, and takes one that waits without moving them.
        if known is None or known[0] != words or known[1] is not None:
            known = self._known = self._ask()
        return known

    def exchange(self, state: Twister) -> Twister:
        """Go on from ``state``, which `read` returned; return the state until now."""
        words, gauss = state
        before = self.read()
        if self._memory is not None and gauss is None and before[1] is None:
            self._memory.raw = words
        else:
            *rest, place = array("I", words)
            self._numpy.set_state(("MT19937", rest, place, int(gauss is not None), gauss or 0.0))
        self._known = state
        return before

    def storable(self, state: Twister) -> tuple[str, Tensor, int, int, float]:
        """Return ``state`` as `numpy.random.get_state` does, with the words as a tensor: shape (624,), int64."""
        words, gauss = state
        place = int.from_bytes(words[-4:], sys.byteorder)
        return "MT19937", _as_tensor(words[:-4]), place, int(gauss is not None), gauss or 0.0

    def _ask(self) -> Twister:
        _, words, place, waits, gauss = self._numpy.get_state()
        return words.astype("uint32").tobytes() + array("I", (place,)).tobytes(), float(gauss) if waits else None

    def _find_memory(self) -> None:
        """Find out where the state lies: once, and when numpy was given another generator."""
        self._memory = self._known = None
        # Older versions of numpy have no such function, and no way to exchange the generator.
        if not hasattr(self._numpy, "get_bit_generator"):
            return
        # Held, since the memory is its own.
        self._bits = self._numpy.get_bit_generator()
        if type(self._bits).__name__ == "MT19937":
            memory = _memory_at(self._bits.ctypes.state_address)
            self._memory = memory if memory.raw == self._ask()[0] else None


def _memory_at(address: int) -> Array[c_char]:
    """Return the words and the place at ``address``; reading and setting ``raw`` copies them."""
    return (c_char * SIZE).from_address(address)


def _as_tensor(words: bytes) -> Tensor:
    # A copy, as torch warns of memory that cannot be written to.
    return torch.frombuffer(bytearray(words), dtype=torch.uint32).to(torch.int64)
