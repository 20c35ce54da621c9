"""From an archive to the value that was saved: its pickle, its tensors, within limits."""

from __future__ import annotations

import pickletools
import sys
from typing import Any

import torch
from torch.serialization import default_restore_location
from torch.storage import UntypedStorage

from trainkit.storage.archive import Archive
from trainkit.storage.constructors import NAMES, NAMES_OF_FORMS, Constructor, Memory, full_name
from trainkit.storage.plain import CONTAINERS, LEAVES, NotPlainError, excess
from trainkit.storage.unpickler import ForeignCodeError, Unpickler

_VALUES = frozenset(CONTAINERS) | LEAVES


def load(archive: Archive, map_location: Any = None, *, with_values: bool = True) -> Any:
    """Return the plain data in an archive of ``torch.save``.

    Args:
        archive: What was saved. Parts that are not asked for are not read.
        map_location: Where tensors go, as in ``torch.load``; None is the CPU.
        with_values: Whether to read what is in tensors. Otherwise they are of zeros, which take no memory until they
            are looked at.

    Raises:
        ArchiveError: If a part that is read is damaged.
        ForeignCodeError: If it is no plain data: to make it, code would have to be run.
        NotPlainError: If it would take memory or time that the file does not.
        Exception: Of any kind, if the file is made up.
    """
    memory = _Storages(archive, map_location, with_values).find
    value = Unpickler(archive.read("data.pkl"), memory, NAMES if with_values else NAMES_OF_FORMS).load()
    if beyond := excess(value, archive.size, _only_values):
        raise NotPlainError(beyond)
    return value


def foreign_names(archive: Archive) -> list[str]:
    """Return what the pickle in ``archive`` names and plain data has no use for. Nothing of it is made."""
    operations = pickletools.genops(archive.read("data.pkl"))
    names = {full_name(*str(argument).split(" ")) for code, argument, _ in operations if code.name == "GLOBAL"}
    return sorted(names - NAMES.keys())


def _only_values(kinds: set[type], entries: list[Any]) -> None:
    """Raise `ForeignCodeError` if what a pickle may call is a value in it."""
    if kinds <= _VALUES:
        return
    entry = next(entry for entry in entries if type(entry) not in _VALUES)
    raise ForeignCodeError(entry.name if isinstance(entry, Constructor) else type(entry).__name__)


class _Storages:
    """The memory of the tensors in an archive, read when it is asked for, and shared by all that are views of it."""

    def __init__(self, archive: Archive, map_location: Any, with_values: bool) -> None:
        self._archive = archive
        self._with_values = with_values
        self._map_location = "cpu" if map_location is None else map_location
        self._storages: dict[str, UntypedStorage] = {}
        order = archive.read("byteorder") if "byteorder" in archive else b"little"
        if order not in (b"little", b"big"):
            raise NotPlainError("its bytes are in no known order")
        self._is_swapped = order != sys.byteorder.encode()

    def find(self, dtype: torch.dtype, key: str, location: str, count: int) -> Memory:
        """Return the memory ``key``: ``count`` elements that were on the device ``location`` when they were saved."""
        size = count * dtype.itemsize
        if self._archive.size_of(f"data/{key}") != size:
            raise NotPlainError("a tensor is more or less than was saved")
        if key not in self._storages:
            self._storages[key] = self._read(dtype, key, location)
        return Memory(self._storages[key], dtype)

    def _read(self, dtype: torch.dtype, key: str, location: str) -> UntypedStorage:
        name, where = f"data/{key}", self._map_location
        if not self._with_values:
            # The system gives such memory when it is looked at; torch.zeros would look at it.
            zeros = bytearray(self._archive.size_of(name))
            values = torch.frombuffer(zeros, dtype=torch.uint8) if zeros else torch.empty(0)
            return values.untyped_storage()
        storage = self._archive.read_storage(name)
        if self._is_swapped:
            storage.byteswap(dtype)  # type: ignore[no-untyped-call]
        if callable(where):
            placed: UntypedStorage | None = where(storage, location)
            if placed is not None:
                return placed
        else:
            location = where.get(location, location) if isinstance(where, dict) else str(where)
        return default_restore_location(storage, location)  # type: ignore[no-untyped-call, no-any-return]
