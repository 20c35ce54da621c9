"""``hparams.yaml``: the hyperparameters of a run, for people and tools. Checkpoints have a copy of their own."""

from __future__ import annotations

import os
import types
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from trainkit.errors import LogWriteError
from trainkit.loggers.run_folder import writing
from trainkit.module.hparams import storable
from trainkit.storage.regular import open_regular
from trainkit.storage.temporary import replacement

NAME = "hparams.yaml"

_KEYS = (str, int, float, types.NoneType)


def update_hparams_file(folder: str | os.PathLike[str], params: Mapping[str, Any]) -> None:
    """Add ``params`` to ``hparams.yaml`` in ``folder``, replacing those that it has under the same names.

    Values that YAML cannot hold are left out: whoever builds a module from this file must not get text in place of a
    network.

    Raises:
        LogWriteError: If the file cannot be written, or the one that is there is none of hyperparameters.
    """
    import yaml

    path = Path(folder, NAME)
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        held = _held(path)
        merged = {**(held or {}), **yaml_values(params)}
        if held is not None and merged == held:
            return  # a run that goes on has them already
        # Written beside and renamed: readers find the old file or the new one, never half of it.
        with replacement(path) as file:
            file.write(yaml.safe_dump(merged, sort_keys=False, allow_unicode=True).encode())


def _held(path: Path) -> dict[str, Any] | None:
    """Return the hyperparameters in the file at ``path``; None if there is no file."""
    from trainkit.storage.yaml_text import load_yaml

    if not path.exists():
        return None
    try:
        with open_regular(path) as file:
            held: Any = load_yaml(file.read().decode())
        if not isinstance(held, dict | None):
            raise ValueError(f"it holds a {type(held).__name__}, not names with values")
    except ValueError as error:
        raise LogWriteError(
            f"could not add to {path}: {error}. Mend it, or move it away; what is in it is left as it is."
        ) from error
    return held or {}


def yaml_values(params: Mapping[str, Any]) -> dict[str, Any]:
    """Return those of ``params`` that YAML can hold, made of YAML's own types alone."""
    kept, _ = storable(params)
    return {name: _plain(value) for name, value in kept.items() if _is_yaml(value)}


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    # safe_dump has no tuples.
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return value


def _is_yaml(value: Any) -> bool:
    """Return whether a value that a checkpoint can hold can be written in YAML, and read back."""
    if isinstance(value, dict):
        return all(isinstance(key, _KEYS) and _is_yaml(item) for key, item in value.items())
    if isinstance(value, set | frozenset):
        return all(isinstance(item, _KEYS) for item in value)
    if isinstance(value, list | tuple):
        return all(map(_is_yaml, value))
    return not isinstance(value, torch.Tensor | torch.dtype | torch.device | complex)
