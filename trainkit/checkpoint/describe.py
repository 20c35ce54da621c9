"""A summary of a checkpoint in a few lines, for ``trainkit checkpoint show``."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from torch import Tensor

from trainkit.checkpoint.lightning import is_from_lightning
from trainkit.checkpoint.shown import form, shown
from trainkit.checkpoint.state import LIGHTNING_VERSION, is_resumable
from trainkit.module.hparams import HYPER_PARAMETERS
from trainkit.printable import printable
from trainkit.reflection import hide_secrets
from trainkit.storage.walk import walk

_UNITS = ("B", "kB", "MB", "GB")
_LONGEST = 200
"""The most characters of a hyperparameter that are shown."""


def describe(checkpoint: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return a summary as pairs of label and text: who wrote the file, for which module, how far the run had come.

    Args:
        checkpoint: A checkpoint of trainkit, or any other dictionary: what it lacks is left out.
    """
    # Another program may have anything under these names.
    own = _mapping(checkpoint.get("trainkit"))
    sizes = [tensor.numel() for _, tensor in tensors_in(checkpoint.get("state_dict"))]
    lines = [
        ("written by", _writer(checkpoint, own)),
        ("module", f"{own.get('module', '(unknown)')}: {sum(sizes):,} numbers in {len(sizes)} tensors"),
        ("progress", _progress(checkpoint)),
        ("hyperparameters", _assignments(_mapping(checkpoint.get(HYPER_PARAMETERS)))),
        ("optimizers", _counted(checkpoint.get("optimizer_states"))),
        ("schedulers", _counted(checkpoint.get("lr_schedulers"))),
        # A state key is the name of the class and, in a bracket, the arguments that tell two of one class apart.
        ("callbacks", ", ".join(re.split(r" \(|\{", str(key))[0] for key in _mapping(checkpoint.get("callbacks")))),
        ("ranks", str(len(_list(own.get("ranks"))) or "")),
    ]
    held = {key: _size(value) for key, value in checkpoint.items()}
    lines.append(("tensors", ", ".join(f"{key} {_unit(size)}" for key, size in held.items() if size)))
    return [(label, printable(text)) for label, text in lines if text]


def list_tensors(checkpoint: Mapping[str, Any]) -> Iterator[str]:
    """Yield a line for each tensor: its place, its type and its shape."""
    for place, tensor in tensors_in(checkpoint):
        yield f"{printable(place)}  {form(tensor)}"


def tensors_in(value: Any) -> Iterator[tuple[str, Tensor]]:
    """Yield every tensor at any depth of ``value`` with its place, such as ``state_dict.layer.weight``."""
    for where, leaf in walk(value, place_of=lambda key, place: f"{place}.{key}" if place else str(key)):
        if isinstance(leaf, Tensor):
            yield where, leaf


def _writer(checkpoint: Mapping[str, Any], own: Mapping[str, Any]) -> str:
    if is_from_lightning(checkpoint):
        return f"Lightning {checkpoint[LIGHTNING_VERSION]}"
    if "format" not in own:
        return "another program"
    writer = str(own.get("version"))
    program = f"trainkit from a file of {writer}" if writer.startswith("Lightning") else f"trainkit {writer}"
    return f"{program}, format {own['format']}"


def _progress(checkpoint: Mapping[str, Any]) -> str:
    """Say at which point of the run the checkpoint was taken."""
    if "epoch" not in checkpoint:
        return ""
    counted = f"epoch {checkpoint['epoch']}, {checkpoint.get('global_step')} updates"
    fit = _mapping(_mapping(checkpoint.get("loops")).get("fit"))
    if not fit:  # other programs count in other ways
        return f"{counted}; {_use(checkpoint)}"
    if fit.get("validation_batch") or fit.get("validation_loader"):
        batch, loader = fit.get("validation_batch", 0), fit.get("validation_loader", 0)
        where = f"in a validation, behind batch {batch} of loader {loader}"
    elif fit.get("epoch_ended") or not fit.get("batch"):
        where = "at the end of an epoch"
    else:
        where = f"behind batch {fit['batch']} of the epoch"
        where += ", within an accumulation group" if fit.get("group_batches") else ""
    seconds = fit.get("elapsed_s")
    return f"{counted}; {where}" + (f"; {seconds:.0f} s of training" if isinstance(seconds, int | float) else "")


def _use(checkpoint: Mapping[str, Any]) -> str:
    """Say what another program's checkpoint, or one of weights, is good for."""
    if is_from_lightning(checkpoint) and is_resumable({**checkpoint, "trainkit": {}}):
        return "a fit can go on from it"
    return "more than weights, but a fit cannot go on from it" if "optimizer_states" in checkpoint else "weights only"


def _assignments(values: Mapping[str, Any]) -> str:
    return ", ".join(f"{name}={shown(value, _LONGEST)}" for name, value in hide_secrets(values).items())


def _counted(states: Any) -> str:
    states = _list(states)
    return f"{len(states)}, with {sum(1 for _ in tensors_in(states))} tensors" if states else ""


def _mapping(value: Any) -> Mapping[Any, Any]:
    return value if isinstance(value, Mapping) else {}


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _size(value: Any) -> int:
    """Return how many bytes the tensors in ``value`` hold."""
    return sum(tensor.numel() * tensor.element_size() for _, tensor in tensors_in(value))


def _unit(size_bytes: int) -> str:
    """Return a size with its unit, such as ``1.5 MB``."""
    power = min((len(str(size_bytes)) - 1) // 3, len(_UNITS) - 1)
    return f"{size_bytes / 1000**power:.4g} {_UNITS[power]}"
