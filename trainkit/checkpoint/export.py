"""Exporting the weights of a checkpoint as a safetensors file, which any framework reads."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from trainkit.checkpoint.shown import form
from trainkit.checks import file_path
from trainkit.errors import CheckpointError, PluginError
from trainkit.module.from_checkpoint import require_weights
from trainkit.printable import printable
from trainkit.storage.atomic_write import replacing
from trainkit.storage.files import read_checkpoint, refuse_same_file
from trainkit.storage.remote import FilePath

_HEADER = "__metadata__"
"""The name that safetensors keeps for itself."""


def export_weights(checkpoint_path: FilePath, path: FilePath, *, prefix: str = "") -> list[str]:
    """Write the weights of a checkpoint to ``path`` in the format of safetensors.

    Args:
        checkpoint_path: The checkpoint.
        path: The file to write; one that exists is replaced.
        prefix: Take only weights whose names begin with it, and remove it: ``"net."`` for what ``self.net`` holds.

    Returns:
        The names of the entries that were left out because they are no tensors.

    Raises:
        PluginError: If the package safetensors is not installed.
        CheckpointError: If there are no such weights, if one is of a kind that safetensors does not have, or if
            ``path`` is the checkpoint itself.
        CheckpointWriteError: If the file system refuses.
    """
    try:
        from safetensors.torch import save
    except ImportError as error:
        raise PluginError("exporting needs safetensors: pip install 'trainkit[export]'") from error
    file_path("export_weights", optional=False, checkpoint_path=checkpoint_path, path=path)
    refuse_same_file(checkpoint_path, path)
    checkpoint = read_checkpoint(checkpoint_path, map_location="cpu")
    require_weights(checkpoint, checkpoint_path)
    chosen = _chosen(checkpoint["state_dict"], prefix)
    weights = {name: value for name, value in chosen.items() if isinstance(value, Tensor)}
    if not weights:
        parts = sorted({printable(name.split(".")[0]) for name in checkpoint["state_dict"]})
        raise CheckpointError(
            f"{checkpoint_path} holds no weights whose names begin with {prefix!r}.\n"
            f"    there are    {', '.join(parts)}"
        )
    refused = [f"    {printable(name)}: {form(value)}" for name, value in weights.items() if not _fits(name, value)]
    if refused:
        raise CheckpointError(
            f"{checkpoint_path} cannot be exported, as safetensors has no form for\n" + "\n".join(refused) + "\n"
            "    to do        convert them (to_dense(), dequantize(), another dtype or name) and save anew, or leave\n"
            "                 them out with a prefix"
        )
    # Clones, as safetensors refuses tensors that share memory.
    exact = {name: value.resolve_conj().resolve_neg().contiguous().clone() for name, value in weights.items()}
    # Not safetensors' own save_file(), which renames but does not fsync.
    with replacing(Path(path)) as file:
        file.write(save(exact, metadata={"format": "pt"}))
    return [name for name in chosen if name not in weights]


def _fits(name: str, value: Tensor) -> bool:
    """Whether safetensors can hold a tensor of this name and type."""
    from safetensors.torch import save

    if value.is_meta or value.layout is not torch.strided or name == _HEADER:
        return False
    try:
        save({name: torch.empty(0, dtype=value.dtype)})
    except Exception:  # a KeyError for a dtype, a UnicodeEncodeError for half of a character
        return False
    return True


def _chosen(weights: dict[str, Any], prefix: str) -> dict[str, Any]:
    """Return the weights whose names begin with ``prefix``, under their names without it."""
    return {name.removeprefix(prefix): value for name, value in weights.items() if name.startswith(prefix)}
