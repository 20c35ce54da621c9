"""What may be in a checkpoint: only what loads without running code. It is checked when a checkpoint is saved.

At load time it would be too late: the run that saved it is over.
"""

from __future__ import annotations

from collections import Counter, OrderedDict
from io import BytesIO
from typing import Any

import torch
from torch import Tensor, nn

from trainkit.errors import CheckpointError
from trainkit.storage.archive import Archive
from trainkit.storage.loading import load
from trainkit.storage.plain import CONTAINERS, LEAVES, excess, num_bytes_of, own_bytes_of
from trainkit.storage.walk import walk

_TENSORS = (Tensor, nn.Parameter)
# By exact type, as for containers: a subclass is pickled by the name of its class. The rest is looked at one by one.
_PLAIN = LEAVES - {int, bytes, *_TENSORS}
_PLAIN_OR_CONTAINERS = _PLAIN.union(CONTAINERS) - {Counter}
_MAX_INT_BITS = 255 * 8
_UNUSUAL = {
    bytes: " that is empty",
    int: " of 255 bytes or more",
    OrderedDict: " with such a thing as an attribute",
    Counter: " with attributes, which pickle forgets",
    Tensor: " that is nested, has attributes of its own, or has no memory",
}
"""What is wrong with a value whose type is allowed."""


def find_unstorable(value: Any, where: str = "") -> list[tuple[str, type]]:
    """Return the place and type of everything in ``value`` that `loading.load` would refuse, in whatever process.

    Args:
        value: What is to be saved.
        where: The place of ``value`` itself. Places below it read like ``hyper_parameters.paths[0]``.
    """
    seen: set[int] = set()

    def enters(item: Any) -> bool:
        if not _is_container(item) or id(item) in seen:  # a container may hold itself
            return False
        seen.add(id(item))
        return True

    leaves = walk(value, where, enters=enters, with_keys=True)
    return [(place, type(leaf)) for place, leaf in leaves if not _is_storable(leaf)]


def check_storable(checkpoint: dict[str, Any]) -> None:
    """Raise `CheckpointError` if ``checkpoint`` holds what could be written but not be loaded.

    The error names the place and the type of each such value.
    """
    is_storable = True

    def look(kinds: set[type], entries: list[Any]) -> None:
        nonlocal is_storable
        # Containers, and what they have as attributes, are looked at in turn.
        if is_storable and not kinds <= _PLAIN_OR_CONTAINERS:
            is_storable = all(type(entry) in _PLAIN_OR_CONTAINERS or _is_storable(entry) for entry in entries)

    # First: what goes through a container by recursion, or asks it for its entries, relies on it.
    if beyond := excess(checkpoint, 0, look):
        raise CheckpointError(
            f"this checkpoint could be written and not be read: {beyond}. Look at what each state_dict and "
            "on_save_checkpoint puts in."
        )
    # Seldom: to name each place takes longer than all the rest.
    if not is_storable and (found := find_unstorable(checkpoint)):
        lines = [f"    {place}: {kind.__module__}.{kind.__qualname__}{_UNUSUAL.get(kind, '')}" for place, kind in found]
        raise CheckpointError(
            "a checkpoint holds only what loads without running code, and so it cannot hold\n" + "\n".join(lines) + "\n"
            "    allowed    tensors, numbers, strings, bytes, None, and dict, list, tuple and set of these\n"
            "    what to do convert it where it is put in, such as state_dict or on_save_checkpoint, or leave it out:\n"
            "               float(x) for a number of numpy, torch.from_numpy(x) for an array, str(x) for a path"
        )


def conflicting_views(value: Any) -> str:
    """Return which two tensors in ``value`` are views of one memory as different types, which torch does not save."""
    seen: dict[int, tuple[str, torch.dtype]] = {}  # by the address of the memory
    for place, leaf in walk(value, enters=lambda item: isinstance(item, CONTAINERS)):
        if isinstance(leaf, Tensor) and leaf.layout is torch.strided:
            address = leaf.untyped_storage().data_ptr()
            other, dtype = seen.setdefault(address, (place, leaf.dtype))
            if address and dtype != leaf.dtype:  # 0 is that of all tensors without data
                return f"{place} is a view as {leaf.dtype} of what {other} has as {dtype}; save a clone() of one"
    return ""


def _is_storable(leaf: Any) -> bool:
    kind = type(leaf)
    # A container is a leaf of the walk where it comes for the second time.
    if kind in _PLAIN:
        return True
    if kind in CONTAINERS:
        return _is_container(leaf)
    # Pickled in a short form, of which longer ones are not read; and empty bytes as a call.
    if kind is int:
        return bool(leaf.bit_length() < _MAX_INT_BITS)
    if kind is bytes:
        return bool(leaf)
    return (kind in _TENSORS and _is_ordinary(leaf)) or _survives(leaf)


def _is_ordinary(tensor: Tensor) -> bool:
    if tensor.layout is not torch.strided or tensor.is_nested or tensor.is_quantized:
        return False
    # One with attributes of its own is saved with them, and so may hold anything; one may have lost its memory.
    return not tensor.__dict__ and num_bytes_of(tensor) <= own_bytes_of(tensor)


def _is_container(value: Any) -> bool:
    # What an OrderedDict has as attributes is saved with it, such as the versions in the state of a module.
    attributes = getattr(value, "__dict__", None)
    is_kept = type(value) is OrderedDict and not find_unstorable(attributes)
    return type(value) in CONTAINERS and (is_kept or not attributes)


def _survives(value: Any) -> bool:
    """Whether a value of an unusual type, such as a tensor of a subclass, can be saved and loaded: by trying it."""
    buffer = BytesIO()
    try:
        torch.save(value, buffer)
        load(Archive(buffer))
    except Exception:
        return False
    return True
