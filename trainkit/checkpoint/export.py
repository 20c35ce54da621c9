"""Exporting the weights of a checkpoint as a safetensors file, which any framework reads."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from torch import Tensor

from trainkit.errors import CheckpointError, PluginError
from trainkit.module.from_checkpoint import require_weights
from trainkit.storage.atomic_write import replacing
from trainkit.storage.files import read_checkpoint, refuse_same_file
from trainkit.storage.remote import FilePath


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
        CheckpointError: If there are no such weights, or ``path`` is the checkpoint itself.
        CheckpointWriteError: If the file system refuses.
    """
    try:
        from safetensors.torch import save
    except ImportError as error:
        raise PluginError("exporting needs safetensors: pip install 'trainkit[export]'") from error
    refuse_same_file(checkpoint_path, path)
    checkpoint = read_checkpoint(checkpoint_path, map_location="cpu")
    require_weights(checkpoint, checkpoint_path)
    chosen = _chosen(checkpoint["state_dict"], prefix)
    weights = {name: value.contiguous().clone() for name, value in chosen.items() if isinstance(value, Tensor)}
    if not weights:
        raise CheckpointError(
            f"{checkpoint_path} holds no weights whose names begin with {prefix!r}.\n"
            f"    there are    {', '.join(sorted({name.split('.')[0] for name in checkpoint['state_dict']}))}"
        )
    # Not safetensors' own save_file(), which renames but does not fsync. The clones above are for its check: it refuses
    # tensors that share memory.
    with replacing(Path(path)) as file:
        file.write(save(weights, metadata={"format": "pt"}))
    return [name for name in chosen if name not in weights]


def _chosen(weights: dict[str, Any], prefix: str) -> dict[str, Any]:
    """Return the weights whose names begin with ``prefix``, under their names without it."""
    return {name.removeprefix(prefix): value for name, value in weights.items() if name.startswith(prefix)}
