"""Layers in a plain list or dict, which no parameters(), no device and no checkpoint knows of."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator

import torch
from torch import nn

from trainkit.module.optimizers import parameters_of
from trainkit.output import warn
from trainkit.storage.walk import walk_attributes


def warn_of_hidden_layers(module: nn.Module, optimizers: Iterable[torch.optim.Optimizer]) -> None:
    """Warn of layers in plain lists, tuples and dicts that want gradients and that no optimizer trains.

    Some are hidden so on purpose, such as a teacher; those are frozen, or meant to be.
    """
    # By identity: parameters compare element by element.
    known = {id(parameter) for parameter in module.parameters()}
    known.update(id(parameter) for optimizer in optimizers for parameter in parameters_of(optimizer))
    # Once each, however many of the layers in it are left.
    hidden = dict.fromkeys(name for name, parameter in _held(module) if _is_left(parameter, known))
    if hidden:
        kind = type(module).__name__
        warn(
            f"nothing trains what is in {', '.join(f'{kind}.{name}' for name in hidden)}: {kind}.parameters() does not "
            "find layers in a plain list, tuple or dict. Put them into torch.nn.ModuleList or ModuleDict, or freeze "
            "them (requires_grad_(False)).",
        )


def _held(module: nn.Module) -> Iterator[tuple[str, nn.Parameter]]:
    """Yield the parameters that are in plain containers, each with the attribute that leads to it."""
    for prefix, part in module.named_modules():
        for place, item in walk_attributes(part, prefix):
            attribute = re.match(rf"{re.escape(prefix)}\.?\w+", place)
            if attribute and attribute[0] != place:
                yield from ((attribute[0], parameter) for parameter in _parameters(item))


def _parameters(item: object) -> Iterable[nn.Parameter]:
    if isinstance(item, nn.Parameter):
        return [item]
    return item.parameters() if isinstance(item, nn.Module) else []


def _is_left(parameter: nn.Parameter, known: Collection[int]) -> bool:
    return parameter.requires_grad and id(parameter) not in known
