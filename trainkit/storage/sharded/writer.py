"""Writing a sharded checkpoint: each rank its own parts, rank 0 all else, the manifest last, and then the name."""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, NamedTuple

from trainkit.errors import CheckpointWriteError
from trainkit.storage.archive import seal
from trainkit.storage.atomic_write import COPIED_AT_ONCE, naming, replacing_folder
from trainkit.storage.remote import FilePath, is_remote
from trainkit.storage.saving import save
from trainkit.storage.sharded.dtensors import dtensors_in, without_shards
from trainkit.storage.sharded.manifest import Manifest, Part
from trainkit.storage.sharded.names import MANIFEST, METADATA, STATE
from trainkit.storage.storable import check_storable

if TYPE_CHECKING:
    from torch.distributed.checkpoint.planner import SavePlan
    from torch.distributed.tensor import DTensor

    from trainkit.storage.sharded.distributed import Written

_SEEN_WITHIN_S = 10.0
"""How long a rank waits until a folder that rank 0 has made is there: network file systems may tell of it late."""


class Begun(NamedTuple):
    """What rank 0 tells the others when it has begun a checkpoint.

    Attributes:
        path: What the folder will be.
        folder: Where it is built.
        same: For each sharded tensor the number of the first that is the same memory, as tied weights are.
    """

    path: str
    folder: str
    same: list[int]


class ShardedWrite:
    """A checkpoint that the ranks write together, from its plan to its name. The methods stand in their order.

    Args:
        checkpoint: What to write. Its sharded tensors are at the same places on all ranks; all else is that of rank 0.
        rank: The number of this process.

    Attributes:
        rest: The checkpoint without sharded tensors.
    """

    def __init__(self, checkpoint: dict[str, Any], rank: int) -> None:
        self.rest: dict[str, Any] = checkpoint
        self._rank = rank
        self._found = dtensors_in(checkpoint)
        self._begun = Begun("", "", [])
        self._stack = ExitStack()
        self._state: BinaryIO | None = None
        self._written: list[Written] = []

    def begin(self, path: FilePath) -> Begun:
        """Make the folder in which the checkpoint is built. Only rank 0 does so.

        Raises:
            CheckpointWriteError: If the file system refuses, or ``path`` is a URL.
            CheckpointError: If something could not be read back without running code.
        """
        if is_remote(path):
            raise CheckpointWriteError(
                f"could not write {os.fspath(path)}: a sharded checkpoint is a folder that all ranks write into, and "
                "goes to a file system that they share, not to a URL. Save on one (dirpath, default_root_dir) and copy "
                "the folder, or make one file of it: trainkit checkpoint convert FOLDER URL."
            )
        check_storable(without_shards(self.rest))
        target = Path(os.path.abspath(path))
        folder, self._state = self._stack.enter_context(replacing_folder(target))
        return Begun(str(target), str(folder), _same(self._found))

    def plan(self, begun: Begun) -> SavePlan:
        """Return what this rank could write.

        Raises:
            CheckpointWriteError: If it does not see what rank 0 has begun.
        """
        from trainkit.storage.sharded.distributed import ShardPlan

        self._begun = begun
        self._require_shared()
        names = _unique([place for place, _ in self._found])
        keys = {id(tensor): names[begun.same[number]] for number, (_, tensor) in enumerate(self._found)}
        self._plan = ShardPlan({keys[id(tensor)]: tensor for _, tensor in reversed(self._found)})
        self.rest = without_shards(self.rest, keys)
        self._found.clear()
        return self._plan.own

    def settle(self, plans: Sequence[SavePlan], *, copies: bool = False) -> None:
        """Decide what this rank writes, from the plans of all ranks.

        Args:
            plans: Those of all ranks, in their order.
            copies: Whether to copy that to the memory of the host now, since it is written later.
        """
        self._plan.settle(plans, self._rank, copies=copies)

    def write(self) -> Written:
        """Write what this rank has to, and return what that is, for rank 0. May be called in a thread.

        Raises:
            CheckpointWriteError: If the file system refuses.
        """
        with naming(Path(self._begun.path)):
            written = self._plan.write(Path(self._begun.folder), self._rank)
            if self._state is not None:
                save(self.rest, self._state)
                seal(self._state)
                self._state.flush()
                os.fsync(self._state.fileno())
        return written

    def collect(self, written: Sequence[Written]) -> None:
        """Take what all ranks have written, in their order, so that `publish` can make it one checkpoint."""
        self._written = list(written)

    def publish(self) -> None:
        """Write what makes the files one checkpoint, and give that its name. Only rank 0 does so.

        Raises:
            CheckpointWriteError: If the file system refuses, or a file of another rank is not there.
        """
        folder = Path(self._begun.folder)
        with self._stack:
            for written in self._written:
                size = sum(part["bytes"] for part in written.parts)
                if written.file and (folder / written.file).stat().st_size != size:
                    raise OSError(f"{written.file}, which another rank has written, is not as long as that")
            self._plan.write_metadata(folder / METADATA, self._written)
            files: dict[str, list[Part]] = {name: [_part_of(folder / name)] for name in (STATE, METADATA)}
            files |= {written.file: written.parts for written in self._written if written.file}
            with open(folder / MANIFEST, "xb") as file:
                file.write(Manifest(files, self._plan.forms(self._written)).as_bytes())
                file.flush()
                os.fsync(file.fileno())

    def discard(self) -> None:
        """Delete what was written so far, unless it was published. Does nothing on other ranks than 0."""
        self._stack.__exit__(_Discarded, _Discarded(), None)

    def _require_shared(self) -> None:
        deadline_s = time.monotonic() + _SEEN_WITHIN_S
        while not (Path(self._begun.folder) / STATE).exists():
            if time.monotonic() > deadline_s:
                raise CheckpointWriteError(
                    f"could not write {self._begun.path}: rank {self._rank} does not see the folder that rank 0 has "
                    "made for it. Ranks that save a sharded checkpoint share a file system: save on one (dirpath, "
                    "default_root_dir), or all of it from rank 0, strategy=FSDP(checkpoint='full')."
                )
            time.sleep(0.1)


class _Discarded(Exception):
    """Ends the building of a folder without giving it a name."""


def _same(found: Sequence[tuple[str, DTensor]]) -> list[int]:
    """Return for each tensor the number of the first of which all of this rank's part is the same memory."""
    first: dict[object, int] = {}
    same = []
    for number, (_, tensor) in enumerate(found):
        local = tensor.to_local()
        place = (local.data_ptr(), local.stride(), tensor.shape, tensor.dtype, tensor.placements)
        same.append(first.setdefault(place if local.numel() else number, number))
    return same


def _unique(places: Sequence[str]) -> list[str]:
    """Return ``places``, with a number behind those that are met before: names may have dots in them, as places do."""
    names: dict[str, None] = {}
    for place in places:
        name, number = place, 1
        while name in names:
            number += 1
            name = f"{place} ({number})"
        names[name] = None
    return list(names)


def _part_of(path: Path) -> Part:
    """Return the digest of a whole file."""
    digest, size = hashlib.sha256(), 0
    with open(path, "rb") as file:
        while data := file.read(COPIED_AT_ONCE):
            digest.update(data)
            size += len(data)
    return {"bytes": size, "sha256": digest.hexdigest()}
