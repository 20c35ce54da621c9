"""What may be in a checkpoint: only what loads without running code, found out when it is saved."""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Iterator
from io import BytesIO
from typing import Any

import torch
from torch import Tensor, nn

from trainkit.errors import CheckpointError

_MAPPINGS = (dict, OrderedDict, Counter)
_SEQUENCES = (list, tuple, set, torch.Size)
_PLAIN = (type(None), bool, int, float, complex, str, bytes, torch.dtype, torch.device)
_TENSORS = (Tensor, nn.Parameter)


def find_unstorable(value: Any, where: str = "") -> list[tuple[str, type]]:
    """Return what in a nested value ``torch.load(..., weights_only=True)`` would refuse: its place and its type.

    Args:
        value: What is to be saved.
        where: The place of ``value`` itself. Places below it read like ``hyper_parameters.paths[0]``.
    """
    return list(_unstorable(value, where, set()))


def check_storable(checkpoint: dict[str, Any]) -> None:
    """Refuse what could be written but not be read back.

    Raises:
        CheckpointError: Names the place and the type of each such value.
    """
    found = find_unstorable(checkpoint)
    if found:
        lines = [f"    {place}: {kind.__module__}.{kind.__qualname__}" for place, kind in found]
        raise CheckpointError(
            "a checkpoint holds only what loads without running code, and so it cannot hold\n" + "\n".join(lines) + "\n"
            "    allowed    tensors, numbers, strings, bytes, None, and dict, list, tuple and set of these\n"
            "    what to do convert it where it is put in (such as state_dict or on_save_checkpoint), or leave it out"
        )


def _unstorable(value: Any, where: str, seen: set[int]) -> Iterator[tuple[str, type]]:
    kind = type(value)
    # A tensor with attributes of its own is saved with them.
    if kind in _PLAIN or (kind in _TENSORS and not value.__dict__):
        return
    if kind not in _MAPPINGS and kind not in _SEQUENCES:
        if not _survives(value):
            yield where, kind
    elif id(value) not in seen:
        seen.add(id(value))
        for place, item in _items(value, where):
            yield from _unstorable(item, place, seen)


def _items(container: Any, where: str) -> Iterator[tuple[str, Any]]:
    if not isinstance(container, dict):
        for index, item in enumerate(container):
            yield f"{where}[{index}]", item
        return
    for key, item in container.items():
        place = f"{where}[{key!r}]" if not isinstance(key, str) else f"{where}.{key}" if where else key
        yield f"the key {place}", key
        yield place, item


def _survives(value: Any) -> bool:
    """Whether a value of an unusual type, such as a tensor of a subclass, comes back from a file."""
    buffer = BytesIO()
    try:
        torch.save(value, buffer)
        buffer.seek(0)
        torch.load(buffer, weights_only=True)
    except Exception:
        return False
    return True
