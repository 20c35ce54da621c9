"""A summary of a checkpoint in a few lines, for ``trainkit checkpoint show``."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from torch import Tensor

from trainkit.module.hparams import HYPER_PARAMETERS
from trainkit.storage.walk import walk

_UNITS = ("B", "kB", "MB", "GB")


def describe(checkpoint: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return a summary as pairs of label and text: who wrote the file, for which module, how far the run had come.

    Args:
        checkpoint: A checkpoint of trainkit, or any other dictionary: what it lacks is left out.
    """
    own = _mapping(checkpoint.get("trainkit"))
    weights = _mapping(checkpoint.get("state_dict"))
    numbers = sum(tensor.numel() for _, tensor in tensors_in(weights))
    lines = [
        ("written by", _writer(own)),
        ("module", f"{own.get('module', '(unknown)')}: {numbers:,} numbers in {len(weights)} tensors"),
        ("progress", _progress(checkpoint)),
        ("hyperparameters", _assignments(_mapping(checkpoint.get(HYPER_PARAMETERS)))),
        ("optimizers", _counted(_list(checkpoint.get("optimizer_states")))),
        ("schedulers", _counted(_list(checkpoint.get("lr_schedulers")))),
        # A state key is the name of the class and, in a bracket, the arguments that tell two of one class apart.
        ("callbacks", ", ".join(re.split(r" \(|\{", str(key))[0] for key in _mapping(checkpoint.get("callbacks")))),
        ("ranks", str(len(_list(own.get("ranks"))) or "")),
    ]
    sizes = {key: _size(value) for key, value in checkpoint.items()}
    lines.append(("tensors", ", ".join(f"{key} {_shown(size)}" for key, size in sizes.items() if size)))
    return [(label, text) for label, text in lines if text]


def tensors_in(value: Any, place: str = "") -> Iterator[tuple[str, Tensor]]:
    """Yield every tensor at any depth of ``value`` with its place, such as ``state_dict.layer.weight``."""
    for where, leaf in walk(value, place, place_of=lambda key, place: f"{place}.{key}" if place else str(key)):
        if isinstance(leaf, Tensor):
            yield where, leaf


def _mapping(value: Any) -> Mapping[str, Any]:
    """Return ``value``; nothing if another program has put something else there."""
    return value if isinstance(value, Mapping) else {}


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _writer(own: Mapping[str, Any]) -> str:
    return f"trainkit {own.get('version')}, format {own['format']}" if "format" in own else "another program"


def _progress(checkpoint: Mapping[str, Any]) -> str:
    """Say at which point of the run the checkpoint was taken."""
    if "epoch" not in checkpoint:
        return ""
    fit = _mapping(_mapping(checkpoint.get("loops")).get("fit"))
    counted = f"epoch {checkpoint['epoch']}, {checkpoint.get('global_step')} updates"
    if not fit:
        return f"{counted}; weights only"
    if fit.get("validation_batch") or fit.get("validation_loader"):
        where = f"in a validation, behind batch {fit.get('validation_batch')} of loader {fit.get('validation_loader')}"
    elif fit.get("epoch_ended") or not fit.get("batch"):
        where = "at the end of an epoch"
    else:
        where = f"behind batch {fit['batch']} of the epoch"
        where += ", within an accumulation group" if fit.get("group_batches") else ""
    return f"{counted}; {where}; {_seconds(fit)} s of training"


def _seconds(fit: Mapping[str, Any]) -> str:
    elapsed = fit.get("elapsed_s", 0)
    return f"{elapsed:.0f}" if isinstance(elapsed, int | float) else "?"


def _assignments(values: Mapping[str, Any]) -> str:
    return ", ".join(f"{name}={value!r}" for name, value in values.items())


def _counted(states: Any) -> str:
    return f"{len(states)}, with {sum(1 for _ in tensors_in(states))} tensors" if states else ""


def _size(value: Any) -> int:
    """Return how many bytes the tensors in ``value`` hold."""
    return sum(tensor.numel() * tensor.element_size() for _, tensor in tensors_in(value))


def _shown(size_bytes: int) -> str:
    """Return a size with its unit, such as ``1.5 MB``."""
    power = min((len(str(size_bytes)) - 1) // 3, len(_UNITS) - 1)
    return f"{size_bytes / 1000**power:.4g} {_UNITS[power]}"
