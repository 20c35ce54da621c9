"""What a pickle may call, with arguments that nobody has saved."""

from __future__ import annotations

from collections import OrderedDict
from typing import Any

import pytest
import torch

from trainkit.storage.constructors import NAMES, Constructor, Memory, StorageType, full_name
from trainkit.storage.plain import NotPlainError


def make(name: str, *arguments: Any) -> Any:
    return NAMES[name](arguments)


def memory(count: int = 6, dtype: torch.dtype = torch.float32) -> Memory:
    return Memory(torch.arange(count * dtype.itemsize // 4, dtype=torch.float32).untyped_storage(), dtype)


V2 = "torch._utils._rebuild_tensor_v2"
V3 = "torch._utils._rebuild_tensor_v3"
WITH_ATTRIBUTES = "torch._tensor._rebuild_from_type_v2"


def test_a_tensor_is_a_view_of_its_memory() -> None:
    assert make(V2, memory(), 1, (2, 2), (2, 1), False, OrderedDict()).tolist() == [[1, 2], [3, 4]]
    assert make(V3, memory(8, torch.uint8), 0, (3,), (1,), False, None, torch.uint16).dtype is torch.uint16
    assert make(V2, memory(), 0, (0, 9), (100, 100), False, None).numel() == 0


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        (V2, (memory(), 0, (7,), (1,), False, None)),
        (V2, (memory(), 6, (1,), (1,), False, None)),
        (V2, (memory(), -1, (1,), (1,), False, None)),
        (V2, (memory(), 0, (2,), (-1,), False, None)),
        (V2, (memory(), 0, (2, 2), (5, 1), False, None)),
        (V2, (memory(), 0, (1.0,), (1,), False, None)),
        (V2, (torch.ones(6), 0, (1,), (1,), False, None)),
        (V2, (memory(), 0, (1,), (1,), False, {"hook": 1})),
        (V2, (memory(), 0, (1,), (1,), False, None, {"requires_grad": True})),
        (V3, (memory(8, torch.uint8), 0, (6,), (1,), False, None, torch.float32)),
        ("torch._utils._rebuild_qtensor", (memory(4, torch.qint8), 0, (2**20,), (0,), (), False, None)),
        ("torch._utils._rebuild_parameter", ([1.0], True, None)),
        ("torch.Tensor", (10**9,)),
        ("_codecs.encode", ("a", "utf-8")),
        ("_codecs.encode", ("a", "zlib")),
        ("builtins.bytearray", (10**9,)),
        ("collections.Counter", ([1, 2],)),
        ("torch.Size", ((1.5,),)),
        (WITH_ATTRIBUTES, (NAMES["builtins.set"], NAMES["torch.Tensor"], (), {})),
        (WITH_ATTRIBUTES, (NAMES["torch.Tensor"], NAMES["torch.Tensor"], (10**9,), {})),
    ],
)
def test_what_was_not_saved_is_not_made(name: str, arguments: tuple[Any, ...]) -> None:
    with pytest.raises(NotPlainError):
        make(name, *arguments)


def test_sparse_tensors_are_checked_for_indices_outside() -> None:
    indices, values = torch.tensor([[0, 9], [0, 1]]), torch.ones(2)
    with pytest.raises(RuntimeError, match="size is inconsistent"):
        make("torch._utils._rebuild_sparse_tensor", torch.sparse_coo, (indices, values, torch.Size([2, 2])))


def expanded(dtype: torch.dtype = torch.int64) -> torch.Tensor:
    """What stands for more than was saved."""
    return torch.zeros(1, dtype=dtype).expand(10**6)


SPARSE, QUANTIZED = "torch._utils._rebuild_sparse_tensor", "torch._utils._rebuild_qtensor"
VIEW = 0, (4,), (1,)


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("builtins.set", (expanded(),)),
        ("torch.Size", (expanded(),)),
        (SPARSE, (torch.sparse_coo, (expanded()[None], expanded(), torch.Size([5])))),
        (SPARSE, (torch.sparse_coo, ([[1]], [1.0], torch.Size([5])))),
        (SPARSE, (torch.sparse_coo, (torch.zeros(1, 1).long(), torch.zeros(1), expanded()))),
        (V2, (memory(4, torch.quint8), 0, (1,), (1,), False, None)),
        (V2, (memory(), 2**40, (0,), (1,), False, None)),
        (V2, (memory(4, torch.int32), 0, (1,), (1,), False, None, {"neg": True})),
        (QUANTIZED, (memory(4, torch.qint8), *VIEW, (torch.per_tensor_affine, 1, 0), False, None)),
        (
            QUANTIZED,
            (memory(4, torch.qint8), *VIEW, (torch.per_channel_affine, expanded(), expanded(), 0), False, None),
        ),
    ],
)
def test_nothing_stands_for_more_than_was_saved(name: str, arguments: tuple[Any, ...]) -> None:
    with pytest.raises(NotPlainError):
        make(name, *arguments)


def test_attributes_take_the_place_of_no_method() -> None:
    arguments = NAMES[V2], NAMES["torch.Tensor"], (memory(), 0, (1,), (1,), False, None)
    assert make(WITH_ATTRIBUTES, *arguments, {"note": 1}).note == 1
    with pytest.raises(NotPlainError, match="the 'sum' of a Tensor is not its own"):
        make(WITH_ATTRIBUTES, *arguments, {"sum": 1})


def test_what_is_named_is_of_few_kinds() -> None:
    kinds = {type(value) for value in NAMES.values()}
    assert kinds == {Constructor, StorageType, torch.dtype, torch.qscheme}
    assert full_name("__builtin__", "set") in NAMES


NOT_KNOWN = {
    *("torch._utils._rebuild_wrapper_subclass", "torch._utils._rebuild_device_tensor_from_cpu_tensor"),
    *("torch._utils._rebuild_device_tensor_from_numpy", "torch.storage.TypedStorage"),
    "torch.nn.parameter.Parameter",
}
"""Subclasses, devices without memory of their own, and forms of torch before 1.6."""


def test_all_that_torch_allows_is_known() -> None:
    # Private, and for this test alone: a torch that allows more is told here, and not to somebody who reads a file.
    from torch._weights_only_unpickler import _get_allowed_globals

    allowed = {str(name) for name in _get_allowed_globals()}  # type: ignore[no-untyped-call]
    unknown = {
        name for name in allowed - NAMES.keys() - NOT_KNOWN if not name.startswith(("torch.cuda.", "torch.sparse."))
    }
    assert {name for name in unknown if not name.endswith("Tensor")} == set()
