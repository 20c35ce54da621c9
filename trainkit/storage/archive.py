"""The archive that a checkpoint is: a zip file of uncompressed parts, each with a checksum, and a seal over them all.

Who checks a part is who reads it: another reader may take the same bytes for another archive, as ``torch.load`` may,
and a file may be another one from one moment to the next.
"""

from __future__ import annotations

import hashlib
import os
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from typing import BinaryIO

import torch

START = b"PK\x03\x04"
"""The first bytes of every zip archive, and so of what ``torch.save`` writes."""

SEAL = b"trainkit sha256 "
"""How the archive's comment begins, before the digest of its list of parts."""

_DAMAGED = "is damaged or cut off: it does not match its checksums. Use another one."

_OTHER = (
    "is not a checkpoint: it is no zip archive, such as torch.save writes since version 1.6. If torch wrote it in its "
    "old form, and you trust who made it, save what torch.load gives anew with torch.save."
)

_FOLDER = 0x10
"""The bit in a zip entry's attributes that marks it as a folder, from MS-DOS."""

_READ_AT_ONCE = 2**20


class ArchiveError(ValueError):
    """An archive is not what it should be. The message goes on from its name: what is wrong, and what to do."""


def seal(file: BinaryIO) -> None:
    """Write a digest of the list of parts behind the archive in ``file``, as its comment, which all readers skip.

    A part has a checksum of its own, beside it: exchanged together, the two would still match.

    Args:
        file: Open for reading and writing, at any position. It is left at its end.
    """
    with zipfile.ZipFile(file) as archive:
        comment = SEAL + _digest(archive)
    # The last two bytes of an archive are the length of its comment, and torch.save writes none.
    file.seek(-2, os.SEEK_END)
    file.write(len(comment).to_bytes(2, "little") + comment)


class Archive:
    """The parts of a file that ``torch.save`` can have written.

    Args:
        file: Open for reading, and for as long as parts are read.

    Attributes:
        size: The bytes of the file.

    Raises:
        ArchiveError: If it is no such file, or is cut off or damaged, as far as its list of parts can tell.
        OSError: If the disk cannot be read, which says nothing about the file.
    """

    def __init__(self, file: BinaryIO) -> None:
        self.size = file.seek(0, os.SEEK_END)
        file.seek(0)
        start = file.read(len(START))
        # An empty file is one that was cut off, not one of another kind.
        if start and start != START:
            raise ArchiveError(_OTHER)
        try:
            self._zip = zipfile.ZipFile(file)
            parts = self._zip.infolist()
            is_compressed = any(part.compress_type != zipfile.ZIP_STORED for part in parts)
            is_whole = is_compressed or (_is_sealed(self._zip, file) and _is_whole(parts, self.size))
        except OSError:
            raise
        # A damaged list can break its reader in any way.
        except Exception as error:
            raise ArchiveError(_DAMAGED) from error
        if is_compressed:  # two megabytes may become two gigabytes
            raise ArchiveError("is refused: its parts are compressed, and torch.save compresses nothing.")
        if not is_whole:
            raise ArchiveError(_DAMAGED)
        # All parts lie in one folder, whose name says nothing.
        self._folder = parts[0].filename.partition("/")[0]
        self._unread = {part.filename for part in parts}

    def __contains__(self, name: str) -> bool:
        return f"{self._folder}/{name}" in self._zip.NameToInfo

    def size_of(self, name: str) -> int:
        """Return the bytes of the part ``name``, such as ``data.pkl``."""
        return self._part(name).file_size

    def read(self, name: str) -> bytes:
        """Return the part ``name``. If it is damaged, `ArchiveError` is raised."""
        with self._opened(self._part(name)) as stream:
            data = stream.read()
        return data

    def read_storage(self, name: str) -> torch.UntypedStorage:
        """Return the part ``name`` as memory for tensors, on the CPU. If it is damaged, `ArchiveError` is raised."""
        part = self._part(name)
        whole = torch.empty(part.file_size, dtype=torch.uint8, device="cpu")
        buffer = bytearray(min(part.file_size, _READ_AT_ONCE))
        read, at = torch.frombuffer(buffer, dtype=torch.uint8) if buffer else whole, 0
        with self._opened(part) as stream:
            while count := stream.readinto(buffer):
                whole[at : at + count] = read[:count]
                at += count
        return whole.untyped_storage()

    def check_rest(self) -> None:
        """Raise `ArchiveError` if a part that was not read is damaged."""
        for part in self._unread.copy():
            with self._opened(self._zip.getinfo(part)) as stream:
                while stream.read(_READ_AT_ONCE):
                    pass

    def _part(self, name: str) -> zipfile.ZipInfo:
        if name not in self:
            raise ArchiveError(f"is damaged: it has no part {name:.50}. Use another one.")
        return self._zip.getinfo(f"{self._folder}/{name}")

    @contextmanager
    def _opened(self, part: zipfile.ZipInfo) -> Iterator[zipfile.ZipExtFile]:
        """Open a part that is read in the context to its end, where its checksum is looked at."""
        try:
            with self._zip.open(part) as stream:
                assert isinstance(stream, zipfile.ZipExtFile)  # as it is opened for reading
                yield stream
                is_whole = stream.tell() == part.file_size
        except (OSError, MemoryError):
            raise
        # The head of a part may be damaged in any way as well.
        except Exception as error:
            raise ArchiveError(_DAMAGED) from error
        if not is_whole:
            raise ArchiveError(_DAMAGED)
        self._unread.discard(part.filename)


def _is_sealed(archive: zipfile.ZipFile, file: BinaryIO) -> bool:
    """Whether the archive has no seal, or the one that belongs to its list of parts."""
    if archive.comment not in (b"", SEAL + _digest(archive)):
        return False
    # The comment is as long as the archive says: `zipfile` takes one that is cut off.
    file.seek(-len(archive.comment) - 2, os.SEEK_END)
    return int.from_bytes(file.read(2), "little") == len(archive.comment)


def _is_whole(parts: list[zipfile.ZipInfo], size: int) -> bool:
    """Whether the parts of an archive can be those that ``torch.save`` has written into a file of ``size`` bytes."""
    # No checksum covers this attribute, and torch.load leaves the tensor of a "folder" uninitialised.
    is_folder = any(part.external_attr & _FOLDER for part in parts)
    # A checkpoint may hold the bytes of another one, as a tensor, say. Cut off right after these, the file ends
    # with the directory of the inner archive, and would pass for that one.
    starts_later = min(part.header_offset for part in parts) > 0
    # Parts that lie within one another would take more memory than the file has bytes.
    overlap = sum(part.file_size for part in parts) > size
    # Of two parts of one name, one would be checked and the other be read, by torch without a look at the case.
    is_ambiguous = len({part.filename.lower() for part in parts}) < len(parts)
    return not (is_folder or starts_later or overlap or is_ambiguous)


def _digest(archive: zipfile.ZipFile) -> bytes:
    parts = (f"{part.filename}\0{part.CRC:08x}\0{part.file_size}\n" for part in archive.infolist())
    return hashlib.sha256("".join(parts).encode()).hexdigest().encode()
