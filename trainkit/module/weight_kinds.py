"""Whether weights of a file are numbers of the kind that a module has: torch casts what it copies, whatever is lost."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, TypeGuard

import torch
from torch import Tensor, nn

from trainkit.storage.sharded.place_holder import SavedTensor
from trainkit.storage.tensors import kind_of, other_kind


def wrong_numbers(module: nn.Module, state_dict: Mapping[str, Any]) -> Iterator[str]:
    """Yield which tensors would lose what they are when they are copied into ``module``; their shapes may be others.

    A parameter takes numbers of its own kind, in whatever width. A buffer takes those that it can hold. What layers
    with a way of loading of their own make of a tensor is theirs.
    """
    own_ways = tuple(f"{name}." if name else "" for name, layer in module.named_modules() if _loads_itself(layer))
    parameters = {name for name, _ in module.named_parameters(remove_duplicate=False)}
    for name, own in module.state_dict().items():
        saved = state_dict.get(name)
        if not _is_tensor_with_data(saved) or not _is_plain(own) or name.startswith(own_ways):
            continue
        # What is not read yet is compared by its form alone.
        must_match = name in parameters or not _is_plain(saved) or isinstance(saved, SavedTensor)
        if wrong := other_kind(saved, own.dtype, name) if must_match else _loss(saved, own, name):
            yield wrong


def _is_tensor_with_data(value: Any) -> TypeGuard[Tensor]:
    return isinstance(value, SavedTensor) or (isinstance(value, Tensor) and not value.is_meta)


def _is_plain(value: Any) -> bool:
    return isinstance(value, Tensor) and value.layout is torch.strided and not value.is_quantized


def _loss(saved: Tensor, own: Tensor, name: str) -> str:
    if kind_of(saved.dtype) == kind_of(own.dtype):
        return ""
    is_kept = own.is_complex() == saved.is_complex() and torch.equal(saved, saved.to(own.dtype).to(saved.dtype))
    return "" if is_kept else f"{name} has numbers that {own.dtype} cannot hold"


def _loads_itself(layer: nn.Module) -> bool:
    is_of_torch = type(layer)._load_from_state_dict.__module__.startswith("torch.")
    return not is_of_torch or bool(layer._load_state_dict_pre_hooks)
