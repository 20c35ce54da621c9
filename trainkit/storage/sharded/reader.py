"""Reading a sharded checkpoint: each part of a file is compared with its digest when it is read."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from io import BytesIO
from pathlib import Path
from typing import Any, BinaryIO

import torch
from torch import Tensor

from trainkit.errors import CheckpointError, CheckpointNotFoundError
from trainkit.storage.archive import Archive, ArchiveError
from trainkit.storage.loading import load
from trainkit.storage.regular import open_regular
from trainkit.storage.sharded.manifest import Chunk, Manifest, read_manifest
from trainkit.storage.sharded.names import MANIFEST, STATE
from trainkit.storage.sharded.place_holder import PLACEMENTS, SAVED_AS, SavedTensor
from trainkit.storage.walk import replaced, walk

_READ_AT_ONCE = 2**20
_THREADS = 8
"""How many files are compared with their digests at a time."""


class ShardedFiles:
    """The files of a sharded checkpoint.

    Args:
        path: The folder.

    Attributes:
        manifest: What is in them.

    Raises:
        CheckpointNotFoundError: If there is no such folder.
        CheckpointError: If it has no manifest, or a damaged one.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        try:
            self.manifest: Manifest = read_manifest(self.path)
        except ArchiveError as error:
            raise CheckpointError(f"{path} {error}") from error
        except FileNotFoundError as error:
            if not self.path.is_dir():
                raise CheckpointNotFoundError(f"there is no checkpoint {path}.") from error
            raise CheckpointError(
                f"{path} is no checkpoint: it is a folder without a {MANIFEST}, which trainkit writes last."
            ) from error
        except OSError as error:
            raise self._unreadable(MANIFEST, error) from error

    def open_state(self, *, checks: bool = True) -> BinaryIO:
        """Open the file of all that is not sharded, for whoever closes it.

        Args:
            checks: Whether to compare it with its digest.
        """
        file = self._opened(STATE)
        try:
            if checks:
                self._compare(STATE, file)
                file.seek(0)
        except BaseException:
            file.close()
            raise
        return file

    def verify(self) -> None:
        """Compare all files with their digests.

        Raises:
            CheckpointError: Names the first file that is damaged, cut off, or not there.
        """
        # Digests are computed outside of Python's lock.
        with ThreadPoolExecutor(_THREADS, thread_name_prefix="trainkit-verify") as pool:
            for _ in pool.map(self._verify_file, self.manifest.files):
                pass

    def check_sizes(self) -> None:
        """Raise `CheckpointError` if a file is not there, or longer or shorter than it was written."""
        for name in self.manifest.files:
            self._opened(name).close()

    def with_place_holders(self, checkpoint: Any) -> Any:
        """Return what was read from the file of all else, with a `SavedTensor` wherever a sharded tensor belongs.

        Raises:
            ArchiveError: If there is no such tensor, or it has another form.
        """

        def place_holder(tensor: Tensor) -> Tensor:
            key, placements = tensor.__dict__.get(SAVED_AS), tensor.__dict__.get(PLACEMENTS)
            if not tensor.is_meta or not isinstance(key, str):
                return tensor
            saved = self.manifest.tensors.get(key)
            if saved is None or saved["shape"] != [*tensor.shape] or self.manifest.dtype_of(key) != tensor.dtype:
                raise ArchiveError(f"contradicts itself: {key[:50]!r} is in it in another form. Use another one.")
            splits = placements if isinstance(placements, list) else []
            if not all(type(each) is int and -1 <= each < tensor.ndim for each in splits):
                raise ArchiveError(f"contradicts itself: {key[:50]!r} was split in no way. Use another one.")
            return SavedTensor.of(tensor, key, splits, self)

        return replaced(checkpoint, place_holder)

    def with_whole(self, checkpoint: Any, map_location: Any) -> Any:
        """Return a checkpoint with whole tensors, and one for all that were one, where `SavedTensor` stood.

        Args:
            checkpoint: What `with_place_holders` returned.
            map_location: Where they go, as in ``torch.load``; None is the CPU.
        """
        tensors: dict[str, Tensor] = {}

        def whole(tensor: Tensor) -> Tensor:
            if not isinstance(tensor, SavedTensor):
                return tensor
            if tensor.saved_as not in tensors:
                tensors[tensor.saved_as] = _moved(tensor.read(), map_location)
            return tensors[tensor.saved_as]

        return replaced(checkpoint, whole)

    def read_into(self, targets: Mapping[str, Tensor]) -> None:
        """Fill tensors with what was saved under their keys: whole ones, or a ``DTensor`` with this rank's part.

        Args:
            targets: Of the shape and dtype that were saved.

        Raises:
            CheckpointError: If a part is damaged, or not there.
        """
        if targets:
            from trainkit.storage.sharded.distributed import read_into

            read_into(self, targets)

    def read_chunk(self, key: str, chunk: Chunk) -> Tensor:
        """Return a part of a tensor."""
        name, number = chunk["file"], chunk["part"]
        part = self.manifest.files[name][number]
        with self._opened(name) as file:
            try:
                file.seek(self.manifest.offset_of(name, number))
                data = file.read(part["bytes"])
            except OSError as error:
                raise self._unreadable(name, error) from error
        if hashlib.sha256(data).hexdigest() != part["sha256"]:
            raise self._damaged(name)
        try:
            tensor: Tensor = load(Archive(BytesIO(data)))
        # It is what was written, and may be made up all the same.
        except Exception as error:
            raise CheckpointError(f"{self.path / name} cannot be loaded: {error}") from error
        is_dense = type(tensor) is Tensor and tensor.layout is torch.strided and not tensor.is_meta
        if not is_dense or [*tensor.shape] != chunk["sizes"] or tensor.dtype != self.manifest.dtype_of(key):
            raise CheckpointError(f"{self.path / name} contradicts the {MANIFEST} beside it. Use another one.")
        return tensor

    def _verify_file(self, name: str) -> None:
        with self._opened(name) as file:
            self._compare(name, file)

    def _compare(self, name: str, file: BinaryIO) -> None:
        """Compare a file, open at its beginning, with its digests."""
        try:
            for part in self.manifest.files[name]:
                digest, left = hashlib.sha256(), part["bytes"]
                while left and (data := file.read(min(left, _READ_AT_ONCE))):
                    digest.update(data)
                    left -= len(data)
                if left or digest.hexdigest() != part["sha256"]:
                    raise self._damaged(name)
        except OSError as error:
            raise self._unreadable(name, error) from error

    def _opened(self, name: str) -> BinaryIO:
        try:
            file = open_regular(self.path / name)
        except FileNotFoundError as error:
            raise CheckpointError(f"{self.path} is damaged: there is no {name} in it. Use another one.") from error
        except OSError as error:
            raise self._unreadable(name, error) from error
        size = os.fstat(file.fileno()).st_size
        if size != self.manifest.size_of(name):
            file.close()
            raise CheckpointError(
                f"{self.path} is damaged: {name} in it has {size} bytes, and {self.manifest.size_of(name)} were "
                "written. Use another one."
            )
        return file

    def _damaged(self, name: str) -> CheckpointError:
        return CheckpointError(
            f"{self.path} is damaged: {name} in it does not match its digest, or is of another checkpoint. "
            "Use another one."
        )

    def _unreadable(self, name: str, error: OSError) -> CheckpointError:
        return CheckpointError(f"{self.path / name} cannot be read: {error.strerror or error}.")


def _moved(tensor: Tensor, map_location: Any) -> Tensor:
    """Return ``tensor``, which is new and on the CPU, where ``torch.load`` would put it."""
    if callable(map_location):
        placed: torch.UntypedStorage | None = map_location(tensor.untyped_storage(), "cpu")
        if placed is None:
            return tensor
        moved = torch.empty(0, dtype=tensor.dtype, device=placed.device)
        with torch.no_grad():
            moved.set_(placed, 0, tensor.shape, tensor.stride())
        return moved
    where = map_location.get("cpu", "cpu") if isinstance(map_location, dict) else map_location
    return tensor if where is None else tensor.to(where)


def saved_in(value: Any) -> list[SavedTensor]:
    """Return all that stands for sharded tensors in ``value``."""
    return [leaf for _, leaf in walk(value) if isinstance(leaf, SavedTensor)]
