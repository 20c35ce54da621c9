"""Where a run writes and what its workers share: free space, and file systems that are slow."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from trainkit.doctor.report import Fact, Finding, Found
from trainkit.storage.remote import is_remote
from trainkit.trainer.explain.page import size_text

FULL_BYTES, SCARCE_BYTES = 10 * 10**6, 2 * 10**9
"""With less than this a run cannot write, and with less than that it may not for long."""

SHARED_BYTES = 10**9
"""What workers that hand over batches should have. A container has 64 MB unless it is told otherwise."""

_ELSEWHERE = "default_root_dir=FOLDER"

_NETWORK = ("nfs", "cifs", "smb", "fuse.sshfs", "fuse.s3fs", "fuse.gcsfuse", "lustre", "beegfs", "9p", "afs", "ceph")

_PSEUDO = (
    "proc",
    "sysfs",
    "cgroup",
    "devpts",
    "debugfs",
    "tracefs",
    "securityfs",
    "configfs",
    "bpf",
    "mqueue",
    "pstore",
)
"""Kinds that are windows into the kernel. Some of them say that they are full, others that they may be written to."""


def disk(folder: str) -> Iterator[Found]:
    """Look at the file system in which a run writes, which makes the folder if it is not there.

    Args:
        folder: The ``default_root_dir``.
    """
    if is_remote(folder):
        yield Fact("disk", f"{folder}: not looked at")
        return
    place = existing(folder)
    kind = file_system_of(place)
    if is_pseudo(kind):
        yield Finding("broken", f"{place} is on {kind}", "it is the kernel's, and no place for a run", _ELSEWHERE)
        return
    free = shutil.disk_usage(place).free
    yield Fact("disk", f"{place}: {size_text(free)} free{f', {kind}' if kind else ''}")
    if not os.access(place, os.W_OK):
        yield Finding("broken", f"{place} cannot be written to", "a run writes there", _ELSEWHERE)
    if free < FULL_BYTES:
        yield Finding("broken", f"the disk of {place} is full", "nothing can be saved", "delete what is old")
    elif free < SCARCE_BYTES:
        yield Finding("slow", f"{size_text(free)} are free in {place}", "checkpoints fill it", "delete what is old")
    if is_network(kind):
        yield Finding(
            "slow",
            f"{place} is on {kind}",
            "each checkpoint and row goes over the network",
            "write to a local disk, or save in the background: ModelCheckpoint(async_save=True)",
        )


def shared_memory(place: str = "/dev/shm") -> Iterator[Found]:
    """Look at the memory through which workers of a DataLoader hand over batches.

    Args:
        place: Where it is mounted.
    """
    if not os.path.isdir(place):  # of Linux alone
        return
    space = shutil.disk_usage(place)
    yield Fact("shared", f"{place}: {size_text(space.free)} of {size_text(space.total)} free, for workers")
    if space.free < SHARED_BYTES:
        yield Finding(
            "slow",
            f"{place} has {size_text(space.free)} free",
            "workers hand over batches there, and die with a bus error where it is full",
            "docker run --shm-size=8g, or num_workers=0",
        )


def existing(folder: str | os.PathLike[str]) -> Path:
    """Return the folder, or else the nearest one above it that is there."""
    path = Path(folder).absolute()
    return next((each for each in (path, *path.parents) if each.is_dir()), Path(path.anchor))


def file_system_of(place: Path, mounts: str | os.PathLike[str] = "/proc/mounts") -> str:
    """Return the kind of file system, such as ``nfs4``; empty where nobody tells.

    Args:
        place: A folder.
        mounts: The kernel's list of what is mounted where.
    """
    try:
        lines = Path(mounts).read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return ""
    real, found = str(place.resolve()), ("", "")
    for _, where, kind, *_ in (line.split() for line in lines if line.count(" ") >= 2):
        where = where.replace("\\040", " ")
        # The longest one around it; of several at one place, the last one mounted.
        if os.path.join(real, "").startswith(os.path.join(where, "")) and len(where) >= len(found[0]):
            found = (where, kind)
    return found[1]


def is_network(kind: str) -> bool:
    """Whether a kind of file system is on another machine."""
    return kind.startswith(_NETWORK)


def is_pseudo(kind: str) -> bool:
    """Whether files of a kind of file system are made by the kernel alone."""
    return kind.startswith(_PSEUDO)
