"""What may be in a checkpoint: only what loads without running code, found out when it is saved."""

from __future__ import annotations

from collections import Counter, OrderedDict
from io import BytesIO
from typing import Any

import torch
from torch import Tensor, nn

from trainkit.errors import CheckpointError
from trainkit.storage.walk import walk

_CONTAINERS = (dict, OrderedDict, Counter, list, tuple, set, torch.Size)
_PLAIN = (type(None), bool, int, float, complex, str, bytes, torch.dtype, torch.device)
_TENSORS = (Tensor, nn.Parameter)


def find_unstorable(value: Any, where: str = "") -> list[tuple[str, type]]:
    """Return what in a nested value ``torch.load(..., weights_only=True)`` would refuse: its place and its type.

    Args:
        value: What is to be saved.
        where: The place of ``value`` itself. Places below it read like ``hyper_parameters.paths[0]``.
    """
    seen: set[int] = set()

    def enters(item: Any) -> bool:
        if type(item) not in _CONTAINERS or id(item) in seen:  # a container may hold itself
            return False
        seen.add(id(item))
        return True

    leaves = walk(value, where, enters=enters, with_keys=True)
    return [(place, type(leaf)) for place, leaf in leaves if not _is_storable(leaf)]


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


def _is_storable(leaf: Any) -> bool:
    kind = type(leaf)
    # A container is a leaf where it comes again. A tensor with attributes of its own is saved with them.
    return kind in _PLAIN or kind in _CONTAINERS or (kind in _TENSORS and not leaf.__dict__) or _survives(leaf)


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
