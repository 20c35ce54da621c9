"""Plain data: tensors, numbers, strings and containers of these, within limits.

What is read from a checkpoint is within them, and what is to be saved has to be. So whatever handles a checkpoint may
go through it by recursion, hash its keys and copy its tensors.
"""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn

CONTAINERS = (dict, OrderedDict, Counter, list, tuple, set, torch.Size)
"""The containers there may be, by exact type: a subclass is pickled by the name of its class."""

LEAVES = frozenset(
    {
        *(type(None), bool, int, float, complex, str, bytes, bytearray),
        *(torch.dtype, torch.device, torch.layout, torch.qscheme),
        *(Tensor, nn.Parameter),
    }
)
"""The types of everything else."""

MAX_DEPTH = 100
"""How many containers may lie in one another. What goes through them by recursion would fail at a thousand."""

MAX_REPEATED = 1_000_000
"""How many entries may come about by one container being in several places. The file holds each once; what goes
through all places would not come to an end where lists of lists repeat one another."""

MAX_EXPANDED = 2**30
"""The size in bytes of a tensor that is a view of fewer bytes, which whatever copies it has to find in memory."""

MAX_KEY = 1000
"""How many values a key that is a tuple may hold, those of tuples in it included, all of which are hashed."""

MAX_ALIKE = 100
"""How many keys of one container may have the same hash: to find one of them takes as many comparisons."""

_OWN_HASH = 2**61 - 1
"""Integers below are their own hash; of others Python takes the remainder, so that any number of them are alike."""


class NotPlainError(ValueError):
    """Something is no plain data, or beyond the limits of it; the message says what."""


def excess(value: Any, num_bytes: int, look: Callable[[set[type], list[Any]], None] | None = None) -> str:
    """Return how ``value`` goes beyond the limits of plain data; empty if it does not.

    Args:
        value: What was loaded, or is to be saved.
        num_bytes: The size of its file.
        look: Called with what is in each container, once for each: the types, and the values, keys and attributes
            included. First comes ``value`` alone.
    """
    limits = _Limits(num_bytes, look)
    try:
        entries = limits.count([value], depth=0) - 1
    except NotPlainError as error:
        return str(error)
    if entries - limits.distinct > MAX_REPEATED:
        return "containers that are in several places make up more entries than memory holds"
    return ""


class _Limits:
    """A walk through all containers in a value, once each.

    Attributes:
        distinct: How many entries there are, those of a container in several places counted once.
    """

    def __init__(self, num_bytes: int, look: Callable[[set[type], list[Any]], None] | None) -> None:
        self._most_expanded = num_bytes + MAX_EXPANDED
        self._look = look
        self._counts: dict[int, int | None] = {}  # by the id of a container; None while it is being counted
        self.distinct = self._expanded = 0

    def count(self, container: Any, depth: int) -> int:
        """Return how many entries ``container`` has, and all containers in it, each as often as it is met."""
        if id(container) in self._counts:
            count = self._counts[id(container)]
            if count is None:
                raise NotPlainError(f"a {type(container).__name__} holds itself")
            return count
        if depth > MAX_DEPTH:
            raise NotPlainError(f"more than {MAX_DEPTH} containers lie in one another")
        self._counts[id(container)] = None
        entries = self._entries(container)
        kinds = set(map(type, entries))
        if self._look is not None:
            self._look(kinds, entries)
        if tensors := tuple(kind for kind in kinds if issubclass(kind, Tensor)):
            self._check_tensors([entry for entry in entries if isinstance(entry, tensors)])
        count = len(container)
        self.distinct += count
        if inner := tuple(kind for kind in kinds if issubclass(kind, CONTAINERS)):
            count += sum(self.count(entry, depth + 1) for entry in entries if isinstance(entry, inner))
        self._counts[id(container)] = count
        return count

    def _entries(self, container: Any) -> list[Any]:
        if wrong := shadowed(container):
            raise NotPlainError(wrong)
        if not isinstance(container, dict | set):
            return list(container)
        keys = list(container)
        if not are_usual_keys(keys):
            check_keys(keys, Counter())
        if isinstance(container, set):
            return keys
        # By the type's own method: an attribute of that name would be called in its place.
        return [*keys, *dict.values(container), *getattr(container, "__dict__", {}).values()]

    def _check_tensors(self, tensors: list[Tensor]) -> None:
        """Look for views that stand for far more bytes than there are."""
        for tensor in tensors:
            if type(tensor) in LEAVES and (wrong := shadowed(tensor)):
                raise NotPlainError(wrong)
            if tensor.layout is torch.strided and not tensor.is_nested:
                self._expanded += max(tensor.nbytes - tensor.untyped_storage().nbytes(), 0)
            if self._expanded > self._most_expanded:
                raise NotPlainError(f"a tensor of shape {tuple(tensor.shape)} stands for more bytes than there are")


def shadowed(value: Any) -> str:
    """Return whether ``value`` has an attribute in the place of a method, which would be taken for that."""
    for name in getattr(value, "__dict__", ()):
        if hasattr(type(value), name):
            kind = type(value).__name__
            return f"the {name!r} of {'an' if kind[0] in 'AEIOU' else 'a'} {kind} is not its own"
    return ""


def are_usual_keys(keys: Iterable[Any]) -> bool:
    """Whether all keys are strings or integers, of which nobody can make many that are alike."""
    kinds = set(map(type, keys))
    if kinds <= {str}:
        return True
    return kinds <= {str, int} and all(type(key) is str or -_OWN_HASH < key < _OWN_HASH for key in keys)


def check_keys(keys: Iterable[Any], hashes: Counter[int]) -> None:
    """Raise `NotPlainError` if hashing or comparing keys would take far longer than reading them.

    Args:
        keys: Those of one container, or some of them.
        hashes: How often each hash was seen in that container; counted on.
    """
    for key in keys:
        if _is_long(key):
            raise NotPlainError("a key holds too many values, or too many lie in one another")
        hashes[hash(key)] += 1
        if hashes[hash(key)] > MAX_ALIKE:
            raise NotPlainError(f"more than {MAX_ALIKE} keys have one hash")


def _is_long(key: Any) -> bool:
    level, count = [key], 0
    for _ in range(MAX_DEPTH):
        tuples = [each for each in level if isinstance(each, tuple)]
        count += sum(map(len, tuples))
        if count > MAX_KEY:
            return True
        level = [each for one in tuples for each in one]
    return any(isinstance(each, tuple) for each in level)
