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
from trainkit.storage.walk import walk

# What torch.load(..., weights_only=True) takes. By exact type: a subclass is pickled by the name of its class.
_CONTAINERS = (dict, OrderedDict, Counter, list, tuple, set, torch.Size)
_PLAIN = (type(None), bool, int, float, complex, str, bytes, torch.dtype, torch.device)
_TENSORS = (Tensor, nn.Parameter)


def find_unstorable(value: Any, where: str = "") -> list[tuple[str, type]]:
    """Return the place and type of everything in ``value`` that ``torch.load(..., weights_only=True)`` would refuse.

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
    """Raise `CheckpointError` if ``checkpoint`` holds what could be written but not be loaded.

    The error names the place and the type of each such value.
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
    # A container is a leaf of the walk where it comes for the second time. A tensor with attributes of its own is saved
    # with them, and so may hold anything.
    return kind in _PLAIN or kind in _CONTAINERS or (kind in _TENSORS and not leaf.__dict__) or _survives(leaf)


def _survives(value: Any) -> bool:
    """Whether a value of an unusual type, such as a tensor of a subclass, can be saved and loaded: by trying it."""
    # The user may have added its class to torch's safe globals, so a list of types of our own would not do.
    buffer = BytesIO()
    try:
        torch.save(value, buffer)
        buffer.seek(0)
        torch.load(buffer, weights_only=True)
    except Exception:
        return False
    return True
