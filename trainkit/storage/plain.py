"""Plain data: tensors, numbers, strings and containers of these, within limits.

What is read from a checkpoint is within them, and what is to be saved has to be. So whatever handles a checkpoint may
go through it by recursion, hash its keys and copy its tensors.
"""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Callable
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
        entries = limits.count([value], depth=0)[0]
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
        # By the id of a container: its entries, and how deep others lie in it; None while it is being looked at.
        self._seen: dict[int, tuple[int, int] | None] = {}
        self.distinct = self._expanded = 0

    def count(self, container: Any, depth: int) -> tuple[int, int]:
        """Return how many entries ``container`` and all in it have, each as often as met, and how deep they lie."""
        if id(container) in self._seen:
            seen = self._seen[id(container)]
            if seen is None:
                raise NotPlainError(f"a {type(container).__name__} holds itself")
            self._check_depth(depth + seen[1])
            return seen
        self._check_depth(depth)
        self._seen[id(container)] = None
        entries = self._entries(container)
        kinds = set(map(type, entries))
        if self._look is not None:
            self._look(kinds, entries)
        count, height = len(container), 0
        self.distinct += count
        tensors = kinds & {Tensor, nn.Parameter}
        inner = tuple(kind for kind in kinds if issubclass(kind, CONTAINERS))
        if tensors:
            self._check_tensors([entry for entry in entries if type(entry) in tensors])
        if tensors or inner:
            for entry in entries:
                if isinstance(entry, inner) or (type(entry) in tensors and (entry := entry.__dict__)):
                    in_entry, in_height = self.count(entry, depth + 1)
                    count, height = count + in_entry, max(height, in_height + 1)
        self._seen[id(container)] = count, height
        return count, height

    def _check_depth(self, depth: int) -> None:
        if depth > MAX_DEPTH:
            raise NotPlainError(f"more than {MAX_DEPTH} containers lie in one another")

    def _entries(self, container: Any) -> list[Any]:
        attributes = getattr(container, "__dict__", {})
        _check_attributes(container, attributes)
        if not isinstance(container, dict | set):
            return list(container)
        keys = list(container)
        check_keys(keys)
        if isinstance(container, set):
            return keys
        # By the type's own method: an attribute of that name would be called in its place.
        return [*keys, *dict.values(container), *attributes.values()]

    def _check_tensors(self, tensors: list[Tensor]) -> None:
        """Look for views that stand for far more bytes than there are."""
        for tensor in tensors:
            _check_attributes(tensor, tensor.__dict__)
            if tensor.layout is torch.strided and not tensor.is_nested:
                self._expanded += max(num_bytes_of(tensor) - own_bytes_of(tensor), 0)
            if self._expanded > self._most_expanded:
                raise NotPlainError(f"a tensor of shape {tuple(tensor.shape)} stands for more bytes than there are")


def num_bytes_of(tensor: Tensor) -> int:
    """Return the bytes of all elements of a tensor; ``tensor.nbytes`` is 0 for some that would take more than 2**63."""
    return tensor.numel() * tensor.itemsize


def own_bytes_of(tensor: Tensor) -> int:
    """Return the bytes of the memory in which the elements of a strided tensor lie."""
    try:
        return tensor.untyped_storage().nbytes()
    except NotImplementedError as error:  # within transformations of functions, such as vmap
        raise NotPlainError("a tensor has no memory of its own") from error


def wrong_attribute(value: Any, name: Any, attribute: Any) -> str:
    """Return what is wrong with an attribute of a tensor or an `OrderedDict`; empty if nothing is."""
    if not isinstance(name, str):
        return "an attribute has no name"
    # Python, numpy and torch ask for such names, and take what they find for what the object can do.
    acts = hasattr(type(value), name) or name.startswith("__") or name == "_is_param"
    # What torch notes on the state of a module, and reads when it loads that.
    is_versions = isinstance(attribute, dict) and all(isinstance(each, dict) for each in dict.values(attribute))
    if acts or (name == "_metadata" and not is_versions):
        kind = type(value).__name__
        return f"the {name[:50]!r} of {'an' if kind[0] in 'AEIOU' else 'a'} {kind} is not its own"
    return ""


def _check_attributes(value: Any, attributes: dict[str, Any]) -> None:
    for name, attribute in attributes.items() if type(value) in _WITH_ATTRIBUTES else ():
        if wrong := wrong_attribute(value, name, attribute):
            raise NotPlainError(wrong)


_WITH_ATTRIBUTES = (OrderedDict, Tensor, nn.Parameter)


def check_keys(keys: list[Any]) -> None:
    """Raise `NotPlainError` if a key is a tuple that takes long to be hashed."""
    if any(issubclass(kind, tuple) for kind in set(map(type, keys))) and any(map(_is_long, keys)):
        raise NotPlainError("a key holds too many values, or too many lie in one another")


def _is_long(key: Any) -> bool:
    level, count = [key], 0
    for _ in range(MAX_DEPTH):
        tuples = [each for each in level if isinstance(each, tuple)]
        if not tuples:
            return False
        count += sum(map(len, tuples))
        if count > MAX_KEY:
            return True
        level = [each for one in tuples for each in one]
    return True
