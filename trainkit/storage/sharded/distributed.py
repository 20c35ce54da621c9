"""What torch.distributed.checkpoint does for sharded checkpoints: it finds which part of which file goes where.

It plans, and trainkit reads and writes. Of its own reading nothing is used: that unpickles what is in the files. It is
imported with this file alone, since that takes longer than all of trainkit.
"""

from __future__ import annotations

import hashlib
import os
import pickle
from collections.abc import Mapping, Sequence
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor
from torch.distributed.checkpoint.default_planner import DefaultLoadPlanner, DefaultSavePlanner
from torch.distributed.checkpoint.filesystem import _StorageInfo
from torch.distributed.checkpoint.metadata import (
    ChunkStorageMetadata,
    Metadata,
    MetadataIndex,
    TensorProperties,
    TensorStorageMetadata,
)
from torch.distributed.checkpoint.planner import SavePlan, WriteItem
from torch.distributed.tensor import DTensor, Shard

from trainkit.storage.saving import save
from trainkit.storage.sharded.manifest import Chunk, Part, TensorForm

if TYPE_CHECKING:
    from trainkit.storage.sharded.reader import ShardedFiles


def placements_of(tensor: DTensor) -> list[int]:
    """Return for each dimension of the mesh which dimension of ``tensor`` is split there; -1 where it is repeated."""
    return [placement.dim if isinstance(placement, Shard) else -1 for placement in tensor.placements]


# Writing


class Written(NamedTuple):
    """What a rank has written.

    Attributes:
        file: The name of the file; empty if there was nothing to write.
        items: The parts of tensors, in the order in which they are in it.
        parts: The digests of these.
    """

    file: str
    items: list[WriteItem]
    parts: list[Part]


class ShardPlan:
    """Who writes which part of which tensor. All ranks make it together.

    Args:
        tensors: The sharded tensors by their keys, which are the same on all ranks.

    Attributes:
        own: What this rank could write, to be given to all ranks.
    """

    def __init__(self, tensors: Mapping[str, DTensor]) -> None:
        self._planner = DefaultSavePlanner(flatten_state_dict=False, flatten_sharded_tensors=False)
        self._planner.set_up_planner(dict(tensors), is_coordinator=True)
        self.own: SavePlan = self._planner.create_local_plan()
        self._metadata = Metadata({})
        self._items: list[WriteItem] = []
        self._values: dict[MetadataIndex, Tensor] = {}

    def settle(self, plans: Sequence[SavePlan], rank: int, *, copies: bool) -> None:
        """Decide from the plans of all ranks what this one writes: of what several have, one does.

        Args:
            plans: Those of all ranks, in their order.
            rank: That of this process.
            copies: Whether to copy what is to be written to the memory of the host: it will be written later.
        """
        settled, self._metadata = self._planner.create_global_plan([*plans])
        # A rank has nothing of a tensor that is shorter than there are ranks.
        self._items = [item for item in settled[rank].items if _chunk_of(item).sizes.numel()]
        for item in self._items:
            value = self._planner.resolve_data(item)
            assert isinstance(value, Tensor), "there is nothing else in the plan"
            self._values[item.index] = value.detach().to("cpu", copy=copies)

    def write(self, folder: Path, rank: int) -> Written:
        """Write the parts of this rank into ``folder``, and flush them to the disk.

        Raises:
            OSError: If the file system refuses.
        """
        if not self._items:
            return Written("", [], [])
        name = f"__{rank}_0.distcp"
        parts: list[Part] = []
        with open(folder / name, "xb") as file:
            for item in self._items:
                buffer = BytesIO()
                # A copy, if it is a view: all of the memory below it would be saved.
                value = self._values.pop(item.index).contiguous()
                is_view = value.untyped_storage().nbytes() != value.numel() * value.itemsize
                save(value.clone() if is_view else value, buffer)
                data = buffer.getbuffer()
                parts.append({"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()})
                file.write(data)
            file.flush()
            os.fsync(file.fileno())
        return Written(name, self._items, parts)

    def forms(self, written: Sequence[Written]) -> dict[str, TensorForm]:
        """Return all sharded tensors by their keys, from what all ranks have written."""
        forms: dict[str, TensorForm] = {
            key: {"dtype": str(form.properties.dtype), "shape": [*form.size], "chunks": []}
            for key, form in self._metadata.state_dict_metadata.items()
            if isinstance(form, TensorStorageMetadata)
        }
        for file, items, _ in written:
            for number, item in enumerate(items):
                chunk = _chunk_of(item)
                place: Chunk = {"offsets": [*chunk.offsets], "sizes": [*chunk.sizes], "file": file, "part": number}
                forms[item.index.fqn]["chunks"].append(place)
        return forms

    def write_metadata(self, path: Path, written: Sequence[Written]) -> None:
        """Write the file by which torch.distributed.checkpoint finds the parts."""
        places: dict[MetadataIndex, _StorageInfo] = {}
        for file, items, parts in written:
            offset = 0
            for item, part in zip(items, parts, strict=True):
                places[item.index] = _StorageInfo(file, offset, part["bytes"])
                offset += part["bytes"]
        self._metadata.storage_data = places
        for form in self._metadata.state_dict_metadata.values():
            if isinstance(form, TensorStorageMetadata):
                form.chunks = [chunk for chunk in form.chunks if chunk.sizes.numel()]
        with open(path, "xb") as metadata:
            pickle.dump(self._metadata, metadata, protocol=2)
            metadata.flush()
            os.fsync(metadata.fileno())


def _chunk_of(item: WriteItem) -> ChunkStorageMetadata:
    assert item.tensor_data is not None, "there are only tensors in the plan"
    return item.tensor_data.chunk


# Reading


def read_into(files: ShardedFiles, targets: Mapping[str, Tensor]) -> None:
    """Fill ``targets``; see `ShardedFiles.read_into`. No rank waits for another."""
    planner = DefaultLoadPlanner(flatten_state_dict=False, flatten_sharded_tensors=False)
    planner.set_up_planner(dict(targets), Metadata({key: _metadata_of(files, key) for key in targets}))
    chunks = {
        MetadataIndex(key, chunk["offsets"]): chunk
        for key in targets
        for chunk in files.manifest.tensors[key]["chunks"]
    }
    for item in planner.create_local_plan().items:
        part = files.read_chunk(item.storage_index.fqn, chunks[item.storage_index])
        for dimension, (start, length) in enumerate(zip(item.storage_offsets, item.lengths, strict=True)):
            part = part.narrow(dimension, start, length)
        target = planner.resolve_tensor(item).detach()
        target.copy_(part)
        planner.commit_tensor(item, target)


def _metadata_of(files: ShardedFiles, key: str) -> TensorStorageMetadata:
    form = files.manifest.tensors[key]
    return TensorStorageMetadata(
        TensorProperties(dtype=files.manifest.dtype_of(key)),
        torch.Size(form["shape"]),
        [ChunkStorageMetadata(torch.Size(each["offsets"]), torch.Size(each["sizes"])) for each in form["chunks"]],
    )
