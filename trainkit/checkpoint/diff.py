"""Comparing two states bit for bit: checkpoints, or anything that could be in one."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from trainkit.checkpoint.shown import form, shown
from trainkit.printable import printable
from trainkit.reflection import hide_secrets
from trainkit.storage.walk import place_of_entry

_LONGEST = 60
"""The most characters of a value that are shown."""

_MOST_DENSE = 2**28
"""The most entries that a sparse tensor is given in memory in order to say by how much it differs."""

_AT_ONCE = 2**24
"""How many values of a tensor are compared at once. Of one that is expanded there may be more than memory holds."""


class Difference(NamedTuple):
    """One place at which two states differ.

    Attributes:
        place: Such as ``optimizer_states[0].state[1].exp_avg``.
        what: How they differ there.
    """

    place: str
    what: str

    def __str__(self) -> str:
        return f"{printable(self.place) or '(all)'}: {self.what}"


def differences(first: Any, second: Any, place: str = "") -> Iterator[Difference]:
    """Yield each place at which two nested states differ, in the order in which they are stored.

    Tensors are compared by their bytes, so a NaN equals a NaN of the same bits, and 0.0 differs from -0.0. Numbers
    differ from equal numbers of another type.
    """
    # Not `storage.walk`, which walks through one value: here two are walked through side by side.
    if isinstance(first, Tensor) and isinstance(second, Tensor):
        what = _of_tensors(first, second)
    elif isinstance(first, Mapping) and isinstance(second, Mapping):
        yield from _of_mappings(first, second, place)
        return
    elif _is_sequence(first) and _is_sequence(second) and len(first) == len(second):
        for index, (one, other) in enumerate(zip(first, second, strict=True)):
            yield from differences(one, other, f"{place}[{index}]")
        return
    else:
        # The second half: NaN, which does not equal itself.
        same = type(first) is type(second) and (first == second or (first != first and second != second))
        texts = [shown(hide_secrets(each, place), _LONGEST) for each in (first, second)]
        what = "" if same else " and ".join(texts)
    if what:
        yield Difference(place, what)


def _of_mappings(first: Mapping[Any, Any], second: Mapping[Any, Any], place: str) -> Iterator[Difference]:
    # A dict as an ordered set: the keys of both, each once, in their order.
    for key in dict.fromkeys([*first, *second]):
        below = place_of_entry(key, place)
        if key in first and key in second:
            yield from differences(first[key], second[key], below)
        else:
            yield Difference(below, "only in the first" if key in first else "only in the second")


def _of_tensors(first: Tensor, second: Tensor) -> str:
    """Say how two tensors differ; an empty text if they do not."""
    forms = [form(tensor) for tensor in (first, second)]
    if forms[0] != forms[1]:
        return f"{forms[0]} and {forms[1]}"
    if first.is_meta:
        return ""
    first, second = first.detach().cpu(), second.detach().cpu()
    if all(_is_equal(one, other) for one, other in zip(_stored(first), _stored(second), strict=True)):
        return ""
    if first.layout is not torch.strided and first.numel() > _MOST_DENSE:
        return "the entries that they store differ"
    first, second = _dense(first), _dense(second)
    if first.numel() == 1:
        return f"{first.item()} and {second.item()}"
    count, distances = 0, list[float | None]()
    for one, other in _pieces(first, second):
        if differ := int((_bytes(one) != _bytes(other)).any(dim=1).sum()):
            count += differ
            distances.append(_distance(one, other))
    text = f"{count} of {first.numel()} values differ"
    if None in distances:
        return text
    # As a tensor, since Python's max() has no answer where one is NaN.
    return f"{text}, by at most {torch.tensor([0.0, *distances], dtype=torch.float64).max().item():.3g}"


def _pieces(first: Tensor, second: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield both in parts that are small enough to be copied."""
    if first.numel() <= _AT_ONCE:
        yield first, second
        return
    longest = max(range(first.dim()), key=lambda dim: first.shape[dim])
    for pair in zip(first.tensor_split(2, longest), second.tensor_split(2, longest), strict=True):
        yield from _pieces(*pair)


def _distance(one: Tensor, other: Tensor) -> float | None:
    """Return the largest difference of two values; None if they are of a type that is no number to torch."""
    # Wide enough for every type, as low precision and integers could overflow in the difference.
    wide = torch.complex128 if one.is_complex() else torch.float64
    try:
        return (one.to(wide) - other.to(wide)).abs().max().item()
    except NotImplementedError:  # such as of torch.bits8
        return None


def _stored(tensor: Tensor) -> list[Tensor]:
    """Return the ordinary tensors of which an unusual one, such as a sparse one, is made."""
    if tensor.layout is torch.sparse_coo:
        tensor = tensor.coalesce()
        return [tensor.indices(), tensor.values()]
    if tensor.layout in (torch.sparse_csr, torch.sparse_bsr):
        return [tensor.crow_indices(), tensor.col_indices(), tensor.values()]
    if tensor.layout in (torch.sparse_csc, torch.sparse_bsc):
        return [tensor.ccol_indices(), tensor.row_indices(), tensor.values()]
    return [tensor.int_repr(), tensor.dequantize()] if tensor.is_quantized else [tensor]


def _dense(tensor: Tensor) -> Tensor:
    dense = tensor.dequantize() if tensor.is_quantized else tensor.to_dense()
    return dense.resolve_conj().resolve_neg()


def _is_equal(one: Tensor, other: Tensor) -> bool:
    return one.shape == other.shape and torch.equal(_bytes(one), _bytes(other))


def _bytes(tensor: Tensor) -> Tensor:
    """Return the bytes of each value. Shape (values, bytes), uint8."""
    # First flat: a dimension of size 1 may keep any stride, with which torch does not view it as bytes.
    return tensor.resolve_conj().resolve_neg().reshape(-1).contiguous().unsqueeze(1).view(torch.uint8)


def _is_sequence(value: Any) -> bool:
    return isinstance(value, Sequence) and not isinstance(value, str | bytes)
