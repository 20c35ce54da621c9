"""``hparams.yaml``: the hyperparameters of a run, for people and tools. Checkpoints have a copy of their own."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from trainkit.loggers.run_folder import writing
from trainkit.module.hparams import storable
from trainkit.storage.walk import walk

NAME = "hparams.yaml"


def update_hparams_file(folder: str | os.PathLike[str], params: Mapping[str, Any]) -> None:
    """Add ``params`` to ``hparams.yaml`` in ``folder``, replacing those that it has under the same names.

    Values that YAML cannot hold are left out: whoever builds a module from this file must not get text in place of a
    network.

    Raises:
        LogWriteError: If the file cannot be written.
    """
    import yaml

    path = Path(folder, NAME)
    temporary = path.with_name(f".{NAME}.tmp")
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        held = yaml.safe_load(path.read_text(encoding="utf-8")) if path.exists() else None
        merged = {**(held or {}), **yaml_values(params)}
        if path.exists() and merged == held:
            return  # a run that goes on has them already
        # Written beside and renamed: readers find the old file or the new one, never half of it.
        temporary.write_text(yaml.safe_dump(merged, sort_keys=False, allow_unicode=True), encoding="utf-8")
        os.replace(temporary, path)


def yaml_values(params: Mapping[str, Any]) -> dict[str, Any]:
    """Return those of ``params`` that YAML can hold, made of YAML's own types alone."""
    kept, _ = storable(params)
    return {name: _plain(value) for name, value in kept.items() if not _holds_torch(value)}


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    # safe_dump has no tuples.
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return value


def _holds_torch(value: Any) -> bool:
    # `storable` keeps these, because a checkpoint can hold them; safe_dump cannot.
    leaves = walk(value, enters=lambda item: isinstance(item, dict | list | tuple | set))
    return any(isinstance(leaf, torch.Tensor | torch.dtype | torch.device | complex) for _, leaf in leaves)
