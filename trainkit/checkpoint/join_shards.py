"""Making one file of a sharded checkpoint."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import torch
from torch import Tensor

from trainkit.checks import file_path
from trainkit.storage.files import read_checkpoint, refuse_same_file, verify, write_checkpoint
from trainkit.storage.remote import FilePath, is_remote
from trainkit.storage.sharded.place_holder import SavedTensor
from trainkit.storage.walk import replaced


def join_shards(old: FilePath, new: FilePath) -> None:
    """Write the sharded checkpoint ``old`` to ``new`` as one file. Nothing in it is run.

    Not all of it has to fit into memory: whole tensors are in files beside ``new`` meanwhile, which the system keeps in
    memory as far as there is some.

    Raises:
        CheckpointNotFoundError: If there is no ``old``.
        CheckpointError: If it is damaged, or ``new`` is the same.
        CheckpointWriteError: If ``new`` cannot be written.
    """
    file_path("join_shards", optional=False, old=old, new=new)
    refuse_same_file(old, new)
    # First, so that damage is found before something is written.
    verify(old)
    checkpoint = read_checkpoint(old, map_location="cpu", whole=False)
    beside = None if is_remote(new) else _nearest_folder(Path(new).absolute().parent)
    with tempfile.TemporaryDirectory(prefix=".trainkit-", dir=beside) as folder:
        read: dict[str, Tensor] = {}

        def whole(tensor: Tensor) -> Tensor:
            if not isinstance(tensor, SavedTensor):
                return tensor
            # Tied weights were saved once, and stay one tensor.
            if tensor.saved_as not in read:
                path = os.path.join(folder, str(len(read)))
                read[tensor.saved_as] = tensor.read(into=_on_disk(path, tensor)) if tensor.numel() else tensor.read()
            return read[tensor.saved_as]

        write_checkpoint(replaced(checkpoint, whole), new)
        read.clear()


def _on_disk(path: str, form: Tensor) -> Tensor:
    """Return a tensor of the shape and dtype of ``form`` whose memory is the file ``path``."""
    values = torch.from_file(path, shared=True, size=form.numel() * form.itemsize, dtype=torch.uint8)
    return values.view(form.dtype).view(form.shape)


def _nearest_folder(folder: Path) -> Path:
    return next(place for place in (folder, *folder.parents) if place.is_dir())
