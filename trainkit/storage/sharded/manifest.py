"""The manifest of a sharded checkpoint: all of its files with their digests, and where each part of a tensor is.

It is written last, so a folder without one is no checkpoint. A file is a row of parts, each with a digest of its own:
who reads one part knows that it is what was saved, and need not read the others.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate
from pathlib import Path
from typing import Annotated, TypedDict

import torch

from trainkit.storage.archive import ArchiveError
from trainkit.storage.regular import open_regular
from trainkit.storage.schema import AtLeast, Count, mismatch
from trainkit.storage.sharded.names import MANIFEST, METADATA, SHARD, STATE, is_name_of_file

FORMAT = 1
MOST_BYTES = 2**30
_MOST_DIMENSIONS = 64
_END = re.compile(rb',"sha256":"([0-9a-f]{64})"\}\n')
_END_BYTES = 78
_DTYPES = {str(value): value for value in vars(torch).values() if isinstance(value, torch.dtype)}


class Part(TypedDict):
    """A part of a file, which begins where the one before it ends."""

    bytes: Count
    sha256: str


class Chunk(TypedDict):
    """A part of a tensor: where in the tensor it is, and in which part of which file."""

    offsets: list[Count]
    sizes: list[Count]
    file: str
    part: Count


class TensorForm(TypedDict):
    """A tensor, and the chunks of which it is made."""

    dtype: str
    shape: list[Count]
    chunks: list[Chunk]


class _Content(TypedDict):
    format: Annotated[int, AtLeast(1)]
    files: dict[str, list[Part]]
    tensors: dict[str, TensorForm]


@dataclass(frozen=True)
class Manifest:
    """What is in a sharded checkpoint.

    Attributes:
        files: The parts of each file, by its name.
        tensors: The sharded tensors by their keys.
    """

    files: dict[str, list[Part]]
    tensors: dict[str, TensorForm]

    def __post_init__(self) -> None:
        if wrong := _wrong(self.files, self.tensors):
            raise ArchiveError(f"is damaged: {wrong}. Use another one.")

    @cached_property
    def _ends(self) -> dict[str, list[int]]:
        """Where each part of each file begins, and at last where the file ends."""
        return {name: [*accumulate((part["bytes"] for part in parts), initial=0)] for name, parts in self.files.items()}

    def as_bytes(self) -> bytes:
        """Return the content of the file. All of it is covered by a digest at its end."""
        content = {"format": FORMAT, "files": self.files, "tensors": self.tensors}
        body = json.dumps(content, separators=(",", ":"))[:-1].encode()
        return body + b',"sha256":"%s"}\n' % hashlib.sha256(body).hexdigest().encode()

    def size_of(self, file: str) -> int:
        """Return the bytes of a file."""
        return self._ends[file][-1]

    def offset_of(self, file: str, part: int) -> int:
        """Return where in a file a part begins."""
        return self._ends[file][part]

    def dtype_of(self, key: str) -> torch.dtype:
        """Return the dtype of a tensor."""
        return _DTYPES[self.tensors[key]["dtype"]]


def read_manifest(folder: Path) -> Manifest:
    """Return the manifest of the checkpoint in ``folder``.

    Raises:
        ArchiveError: If it is damaged, contradicts itself, or is of a later version.
        OSError: If it cannot be read.
    """
    with open_regular(folder / MANIFEST) as file:
        size = file.seek(0, os.SEEK_END)
        if size > MOST_BYTES:
            raise ArchiveError(f"is damaged: its {MANIFEST} has {size} bytes. Use another one.")
        file.seek(max(0, size - _END_BYTES))
        is_ended = _END.fullmatch(file.read(_END_BYTES)) is not None
        file.seek(0)
        written = file.read(MOST_BYTES) if is_ended else b""
    body, end = written[:-_END_BYTES], _END.fullmatch(written[-_END_BYTES:])
    if end is None or hashlib.sha256(body).hexdigest().encode() != end[1]:
        raise ArchiveError(f"is damaged: its {MANIFEST} does not match its digest. Use another one.")
    try:
        content = json.loads(body + b"}")
    # What matches its digest may still be made up.
    except (ValueError, RecursionError) as error:
        raise ArchiveError(f"is damaged: its {MANIFEST} cannot be read. Use another one.") from error
    if wrong := mismatch(content, _Content):
        raise ArchiveError(f"is damaged: in its {MANIFEST} {wrong}. Use another one.")
    if content["format"] > FORMAT:
        raise ArchiveError(f"was written by a later version of trainkit (form {content['format']}). Update trainkit.")
    return Manifest(content["files"], content["tensors"])


def _wrong(files: dict[str, list[Part]], tensors: dict[str, TensorForm]) -> str:
    """Return what contradicts itself; empty if nothing does."""
    for name in files:
        # A name leads nowhere else than into the folder.
        if not is_name_of_file(name) or name == MANIFEST:
            return f"it names a file {name[:50]!r}"
    if missing := next((name for name in (STATE, METADATA) if len(files.get(name, ())) != 1), None):
        return f"it has no {missing}"
    used: set[tuple[str, int]] = set()
    for key, tensor in tensors.items():
        dtype, shape = _DTYPES.get(tensor["dtype"]), tensor["shape"]
        if dtype is None or len(shape) > _MOST_DIMENSIONS or math.prod(shape) * dtype.itemsize >= 2**63:
            return f"there is no tensor such as {key[:50]!r}"
        for chunk in tensor["chunks"]:
            place = chunk["file"], chunk["part"]
            if not SHARD.fullmatch(place[0]) or place[0] not in files or place[1] >= len(files[place[0]]):
                return f"a part of {key[:50]!r} is nowhere"
            # What memory is asked for a tensor is there on the disk.
            room = files[place[0]][place[1]]["bytes"]
            if place in used or math.prod(chunk["sizes"]) * dtype.itemsize > room:
                return f"a part of {key[:50]!r} is more than was saved"
            used.add(place)
        if not _tiles(tensor["chunks"], shape):
            return f"the parts of {key[:50]!r} do not make up a tensor of shape {tuple(shape)}"
    return ""


def _tiles(chunks: Sequence[Chunk], shape: Sequence[int]) -> bool:
    """Whether chunks make up a tensor, none lying within another: along each dimension in turn, as a mesh splits it."""
    if any(not len(shape) == len(chunk["offsets"]) == len(chunk["sizes"]) for chunk in chunks):
        return False
    if 0 in shape:
        return not chunks
    groups: list[Sequence[Chunk]] = [chunks]
    for dimension, size in enumerate(shape):
        groups = [part for group in groups for part in _split(group, dimension, size)]
        if not all(groups):
            return False
    return all(len(group) == 1 for group in groups)


def _split(chunks: Iterable[Chunk], dimension: int, size: int) -> Iterable[Sequence[Chunk]]:
    """Yield the chunks that have one place along a dimension, for each place; nothing at last if those leave gaps."""
    places: dict[tuple[int, int], list[Chunk]] = {}
    for chunk in chunks:
        places.setdefault((chunk["offsets"][dimension], chunk["sizes"][dimension]), []).append(chunk)
    end = 0
    for start, length in sorted(places):
        if start != end or not length:
            yield ()
            return
        end += length
        yield places[start, length]
    if end != size:
        yield ()
