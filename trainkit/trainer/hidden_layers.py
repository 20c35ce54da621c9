"""Layers in a plain list or dict, which no parameters(), no device and no checkpoint knows of."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator

import torch
from torch import nn

from trainkit.module.optimizers import parameters_of
from trainkit.storage.output import warn


def warn_of_hidden_layers(module: nn.Module, optimizers: Iterable[torch.optim.Optimizer]) -> None:
    """Warn of layers in plain lists, tuples and dicts that want gradients and that no optimizer trains.

    Some are hidden so on purpose, such as a teacher; those are frozen, or meant to be.
    """
    # By identity: parameters compare element by element.
    known = {id(parameter) for parameter in module.parameters()}
    known.update(id(parameter) for optimizer in optimizers for parameter in parameters_of(optimizer))
    hidden = [name for name, parameters in _held(module) if any(_is_left(each, known) for each in parameters)]
    if hidden:
        kind = type(module).__name__
        warn(
            f"nothing trains what is in {', '.join(f'{kind}.{name}' for name in hidden)}: {kind}.parameters() does not "
            "find layers in a plain list, tuple or dict. Put them into torch.nn.ModuleList or ModuleDict, or freeze "
            "them (requires_grad_(False)).",
        )


def _held(module: nn.Module) -> Iterator[tuple[str, list[nn.Parameter]]]:
    """Return the attributes that are plain containers, with the parameters of what they hold."""
    for prefix, part in module.named_modules():
        for name, value in vars(part).items():
            if isinstance(value, list | tuple | dict):
                parameters = [each for item in _items(value) for each in _parameters(item)]
                yield f"{prefix}.{name}" if prefix else name, parameters


def _items(value: list[object] | tuple[object, ...] | dict[object, object]) -> Collection[object]:
    return value.values() if isinstance(value, dict) else value


def _parameters(item: object) -> Iterable[nn.Parameter]:
    if isinstance(item, nn.Parameter):
        return [item]
    return item.parameters() if isinstance(item, nn.Module) else []


def _is_left(parameter: nn.Parameter, known: Collection[int]) -> bool:
    return parameter.requires_grad and id(parameter) not in known
