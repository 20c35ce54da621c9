"""The weights of a checkpoint as a safetensors file, which any framework reads."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from torch import Tensor

from trainkit.errors import CheckpointError, PluginError
from trainkit.module.from_checkpoint import require_weights
from trainkit.storage.atomic_write import replacing
from trainkit.storage.files import read_checkpoint
from trainkit.storage.remote import FilePath


def export_weights(checkpoint_path: FilePath, path: FilePath, *, prefix: str = "") -> list[str]:
    """Write the weights of a checkpoint to ``path`` in the format of safetensors.

    Args:
        checkpoint_path: The checkpoint.
        path: Where to; what is there is replaced.
        prefix: Take only weights whose names begin so, and without it: ``"net."`` for what ``self.net`` holds.

    Returns:
        The names of what was left out because it is no tensor.

    Raises:
        PluginError: If the package safetensors is not installed.
        CheckpointError: If there are no such weights.
        CheckpointWriteError: If the file system refuses.
    """
    try:
        from safetensors.torch import save
    except ImportError as error:
        raise PluginError("exporting needs safetensors: pip install 'trainkit[export]'") from error
    checkpoint = read_checkpoint(checkpoint_path, map_location="cpu")
    require_weights(checkpoint, checkpoint_path)
    chosen = _chosen(checkpoint["state_dict"], prefix)
    weights = {name: value.contiguous().clone() for name, value in chosen.items() if isinstance(value, Tensor)}
    if not weights:
        raise CheckpointError(
            f"{checkpoint_path} holds no weights whose names begin with {prefix!r}.\n"
            f"    there are    {', '.join(sorted({name.split('.')[0] for name in checkpoint['state_dict']}))}"
        )
    # safetensors refuses tensors that share memory, so each is a copy of its own; it does not bring them to the disk.
    with replacing(Path(path)) as file:
        file.write(save(weights, metadata={"format": "pt"}))
    return [name for name in chosen if name not in weights]


def _chosen(weights: dict[str, Any], prefix: str) -> dict[str, Any]:
    return {name.removeprefix(prefix): value for name, value in weights.items() if name.startswith(prefix)}
