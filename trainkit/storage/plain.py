"""Loading plain data: tensors, numbers, strings and containers of these, by one list and within limits.

What a file names is imported by nobody. `torch.load` with ``weights_only=True`` sees to that, but for what a library
has added to its list (``torch.serialization.add_safe_globals``): here only torch's own list counts, so that a file
means the same in every process.
"""

from __future__ import annotations

import pickletools
import warnings
import zipfile
from collections import Counter, OrderedDict
from collections.abc import Iterator
from pickle import UnpicklingError
from typing import Any, BinaryIO

import torch
from torch import Tensor

CONTAINERS = (dict, OrderedDict, Counter, list, tuple, set, torch.Size)
"""The containers there may be, by exact type: a subclass is pickled by the name of its class."""

MAX_DEPTH = 100
"""How many containers may lie in one another. What goes through them by recursion would fail at a thousand."""

MAX_REPEATED = 1_000_000
"""How many entries may come about by one container being in several places. The file holds each once; what goes
through all places would not come to an end where lists of lists repeat one another."""

MAX_EXPANDED = 2**30
"""The size in bytes of a tensor that is a view of fewer bytes, which whatever copies it has to find in memory."""

_NAMES = {
    *("collections.OrderedDict", "collections.Counter", "_codecs.encode"),
    *(f"{module}.{name}" for module in ("builtins", "__builtin__") for name in ("set", "bytearray", "complex")),
    *("torch.Size", "torch.Tensor", "torch.device", "torch.nn.parameter.Parameter"),
    *("torch.serialization._get_layout", "torch._tensor._rebuild_from_type_v2"),
    *("torch.storage.TypedStorage", "torch.storage.UntypedStorage"),
}


def load(source: BinaryIO | str, map_location: Any = "cpu", *, mmap: bool = False) -> Any:
    """Load plain data from an archive of ``torch.save``.

    Args:
        source: A file open for reading, or a path, which ``mmap`` needs.
        map_location: Where tensors go, as in ``torch.load``.
        mmap: Whether to map tensors into memory, so that none is read that is not used.

    Raises:
        UnpicklingError: If the file asks for anything but plain data.
        Exception: Of any kind, if the file is made up.
    """
    # Seldom: torch.distributed.tensor adds classes of its own, and users do.
    if torch.serialization.get_safe_globals() and (foreign := foreign_names(source)):
        raise UnpicklingError(f"{', '.join(foreign)} is on no list of torch")
    if not isinstance(source, str):
        source.seek(0)
    # What torch has to say of sparse tensors, say: no reason to refuse them where warnings are errors.
    with warnings.catch_warnings(action="ignore"):
        return torch.load(source, map_location=map_location, weights_only=True, mmap=mmap)


def excess(value: Any, num_bytes: int) -> str:
    """Return how ``value`` goes beyond the limits of plain data; empty if it does not.

    Args:
        value: What was loaded, or is to be saved.
        num_bytes: The size of its file.
    """
    return _nesting(value) or _expansion(value, num_bytes)


def _shadowed(value: Any) -> str:
    """Return whether ``value`` has an attribute in the place of a method, which would be taken for that."""
    for name in getattr(value, "__dict__", ()):
        if hasattr(type(value), name):
            return f"the {name!r} of {_name_of(type(value))} is not its own"
    return ""


def _name_of(kind: type) -> str:
    return f"an {kind.__name__}" if kind.__name__[0] in "AEIOU" else f"a {kind.__name__}"


def _nesting(value: Any) -> str:
    """Return whether containers hold themselves, lie too deep in one another, or repeat one another too often."""
    if not isinstance(value, CONTAINERS):
        return ""
    if wrong := _shadowed(value):
        return wrong
    sizes: dict[int, int] = {}  # of each container: its entries, and those of all containers in it
    path: list[tuple[int, Iterator[Any]]] = [(id(value), _containers(value))]
    sizes[id(value)] = len(value)
    is_open, distinct = {id(value)}, len(value)
    while path:
        here, rest = path[-1]
        inner = next(rest, None)
        if inner is None:
            path.pop()
            is_open.discard(here)
            if path:
                sizes[path[-1][0]] += sizes[here]
            continue
        if wrong := _shadowed(inner):
            return wrong
        if id(inner) in is_open:
            return f"a {type(inner).__name__} holds itself"
        if id(inner) in sizes:
            sizes[here] += sizes[id(inner)]
            continue
        if len(path) == MAX_DEPTH:
            return f"more than {MAX_DEPTH} containers lie in one another"
        sizes[id(inner)] = len(inner)
        distinct += len(inner)
        is_open.add(id(inner))
        path.append((id(inner), _containers(inner)))
    if sizes[id(value)] - distinct > MAX_REPEATED:
        return "containers that are in several places make up more entries than memory holds"
    return ""


def _expansion(value: Any, num_bytes: int) -> str:
    """Return whether tensors are views that stand for far more bytes than there are, or not what they seem."""
    seen: set[int] = set()
    pending, excess_bytes = [value], 0
    while pending:
        item = pending.pop()
        if isinstance(item, Tensor):
            if wrong := _shadowed(item):
                return wrong
            if item.layout is torch.strided and not (item.is_nested or item.is_meta):
                excess_bytes += max(item.nbytes - item.untyped_storage().nbytes(), 0)
            if excess_bytes > num_bytes + MAX_EXPANDED:
                return f"a tensor of shape {tuple(item.shape)} stands for more bytes than there are"
        elif isinstance(item, CONTAINERS) and id(item) not in seen:
            seen.add(id(item))
            pending.extend(_entries(item))
    return ""


def _entries(container: Any) -> Iterator[Any]:
    """Yield what is in a container, keys and attributes included."""
    # By the type's own methods: an attribute of that name would be called in their place.
    if isinstance(container, dict):
        yield from dict.keys(container)
        yield from dict.values(container)
        yield from getattr(container, "__dict__", {}).values()
    else:
        yield from container


def _containers(container: Any) -> Iterator[Any]:
    """Yield the containers that are entries of ``container``, keys included."""
    return (each for each in _entries(container) if isinstance(each, CONTAINERS))


def foreign_names(source: BinaryIO | str) -> list[str]:
    """Return what the archive wants to import and torch itself does not allow."""
    if not isinstance(source, str):
        source.seek(0)
    with zipfile.ZipFile(source) as archive:
        # torch finds parts whatever the case of their names.
        pickles = [archive.read(part) for part in archive.infolist() if part.filename.lower().endswith(".pkl")]
    # "module name"; torch refuses every other operation that imports.
    names = {
        str(argument).replace(" ", ".")
        for each in pickles
        for operation, argument, _ in pickletools.genops(each)
        if operation.name == "GLOBAL"
    }
    return sorted(name for name in names if not _is_of_torch(name))


def _is_of_torch(name: str) -> bool:
    module, _, attribute = name.rpartition(".")
    if name in _NAMES or (module == "torch._utils" and attribute.startswith("_rebuild_")):
        return True
    if module.removesuffix(".sparse") in ("torch", "torch.cuda") and attribute.endswith(("Storage", "Tensor")):
        return True
    return module == "torch" and isinstance(getattr(torch, attribute, None), torch.dtype | torch.qscheme)
