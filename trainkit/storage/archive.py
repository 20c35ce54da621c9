"""The archive that a checkpoint is: a zip file of uncompressed parts, each with a checksum, and a seal over them all.

``torch.load`` looks at none of these, so they are looked at before.
"""

from __future__ import annotations

import hashlib
import os
import zipfile
from typing import BinaryIO

START = b"PK\x03\x04"
"""The first bytes of every zip archive, and so of what ``torch.save`` writes."""

SEAL = b"trainkit sha256 "
"""How the archive's comment begins, before the digest of its list of parts."""

_FOLDER = 0x10
"""The bit in a zip entry's attributes that marks it as a folder, from MS-DOS."""


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


def damage(file: BinaryIO) -> str:
    """Return what is wrong with the archive in ``file``, and what to do; empty if it is whole.

    Raises:
        OSError: If the disk cannot be read, which says nothing about the file.
    """
    size = file.seek(0, os.SEEK_END)
    file.seek(0)
    start = file.read(len(START))
    # An empty file is one that was cut off, not one of another kind.
    if start and start != START:
        return "is not a checkpoint: no torch.save since version 1.6 writes such a file."
    try:
        with zipfile.ZipFile(file) as archive:
            parts = archive.infolist()
            # Ahead of the checksums, for which they would be unpacked: two megabytes may become two gigabytes.
            if _has_compressed(parts):
                return "is refused: its parts are compressed, and torch.save compresses nothing."
            is_sealed = archive.comment in (b"", SEAL + _digest(archive)) and _ends_with(file, archive.comment)
            if is_sealed and _is_whole(parts, size) and archive.testzip() is None:
                return ""
    except OSError:
        raise
    except Exception:
        # The archive's directory may be damaged in any way, and break its reader in any way.
        pass
    return "is damaged or cut off: it does not match its checksums. Use an older checkpoint."


def is_compressed(file: BinaryIO) -> bool:
    """Whether the archive in ``file`` has parts that reading would unpack.

    Raises:
        Exception: Of any kind, if it is no archive.
    """
    with zipfile.ZipFile(file) as archive:
        return _has_compressed(archive.infolist())


def _has_compressed(parts: list[zipfile.ZipInfo]) -> bool:
    return any(part.compress_type != zipfile.ZIP_STORED for part in parts)


def _ends_with(file: BinaryIO, comment: bytes) -> bool:
    """Whether the comment is as long as the archive says: `zipfile` takes one that is cut off."""
    file.seek(-len(comment) - 2, os.SEEK_END)
    return int.from_bytes(file.read(2), "little") == len(comment)


def _is_whole(parts: list[zipfile.ZipInfo], size: int) -> bool:
    """Whether the parts of an archive can be those that ``torch.save`` has written into a file of ``size`` bytes."""
    # No checksum covers this attribute, and torch.load leaves the tensor of a "folder" uninitialised.
    is_folder = any(part.external_attr & _FOLDER for part in parts)
    # A checkpoint may hold the bytes of another one, as a tensor, say. Cut off right after these, the file ends
    # with the directory of the inner archive, and would pass for that one.
    starts_later = min(part.header_offset for part in parts) > 0
    # Parts that lie within one another would take more memory than the file has bytes.
    overlap = sum(part.file_size for part in parts) > size
    # Of two parts of one name, one would be checked and the other be read.
    is_ambiguous = len({part.filename.lower() for part in parts}) < len(parts)  # torch does not look at the case
    return not (is_folder or starts_later or overlap or is_ambiguous)


def _digest(archive: zipfile.ZipFile) -> bytes:
    parts = (f"{part.filename}\0{part.CRC:08x}\0{part.file_size}\n" for part in archive.infolist())
    return hashlib.sha256("".join(parts).encode()).hexdigest().encode()
