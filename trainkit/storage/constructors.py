"""What the pickle in a checkpoint may name, and what is made of it: tensors, and values that have no form of their own.

A name in a file is looked up here and nowhere else; nothing is imported for it. ``torch.load`` with
``weights_only=True`` knows the same names, and those that any library has added to its list. The functions that it
calls for them take what they are given: to make memory that nobody has written, as in ``torch.Tensor(10**9)``, or to
look at what lies behind the end of what was saved.
"""

from __future__ import annotations

import warnings
from collections import Counter, OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.storage import TypedStorage, UntypedStorage

from trainkit.storage.plain import NotPlainError, shadowed


@dataclass(frozen=True)
class Constructor:
    """A function or class that a pickle calls with arguments.

    Attributes:
        name: Under which it is in a pickle.
        make: Makes a value of the arguments, or raises any exception if they are wrong.
    """

    name: str
    make: Callable[..., Any]


@dataclass(frozen=True)
class StorageType:
    """The name of a kind of memory, whose elements are of ``dtype``."""

    dtype: torch.dtype


@dataclass(frozen=True)
class Memory:
    """The memory of tensors, as a pickle describes it: as elements of ``dtype``."""

    storage: UntypedStorage
    dtype: torch.dtype


def give_attributes(value: Any, attributes: Any) -> None:
    """Give ``value`` attributes that a pickle names, none of which takes the place of its methods."""
    _require(type(attributes) is dict and all(type(name) is str for name in attributes), "attributes that are no names")
    value.__dict__.update(attributes)
    if wrong := shadowed(value):
        raise NotPlainError(wrong)


# Python's


def _encoded(text: str, encoding: str) -> bytes:
    # In this one pickle writes bytes; others may expand what they are given, and are imported by name.
    _require(encoding == "latin1", f"text in the encoding {encoding!r}")
    return text.encode("latin1")


def _bytearray(content: str | bytes = b"", encoding: str = "latin-1") -> bytearray:
    _require(type(content) in (str, bytes), "a bytearray without content")
    return bytearray(content if isinstance(content, bytes) else _encoded(content, encoding.replace("-", "")))


def _ordered_dict() -> OrderedDict[Any, Any]:
    return OrderedDict()


def _counter(counts: dict[Any, Any]) -> Counter[Any]:
    _require(type(counts) is dict, "a Counter of no counts")
    return Counter(counts)


# torch's


def _size(sizes: tuple[int, ...]) -> torch.Size:
    _require_integers(sizes)
    return torch.Size(sizes)


def _device(kind: str, index: int | None = None) -> torch.device:
    _require(type(kind) is str, "a device without a name")
    return torch.device(kind) if index is None else torch.device(kind, index)


def _layout(name: str) -> torch.layout:
    return _LAYOUTS[name]


def _tensor(memory: Memory, offset: int, size: tuple[int, ...], stride: tuple[int, ...]) -> Tensor:
    return _view(memory, memory.dtype, offset, size, stride)


def _tensor_v2(
    memory: Memory,
    offset: int,
    size: tuple[int, ...],
    stride: tuple[int, ...],
    requires_grad: bool,
    hooks: Any,
    metadata: Any = None,
) -> Tensor:
    return _tensor_v3(memory, offset, size, stride, requires_grad, hooks, memory.dtype, metadata)


def _tensor_v3(
    memory: Memory,
    offset: int,
    size: tuple[int, ...],
    stride: tuple[int, ...],
    requires_grad: bool,
    hooks: Any,
    dtype: torch.dtype,
    metadata: Any = None,
) -> Tensor:
    _require(not hooks, "hooks of a tensor")
    tensor = _view(memory, dtype, offset, size, stride)
    tensor.requires_grad = requires_grad
    if metadata:
        # That its values are to be conjugated, or negated.
        _require(type(metadata) is dict and metadata.keys() <= {"conj", "neg"}, "unknown properties of a tensor")
        torch._utils.set_tensor_metadata(tensor, metadata)  # type: ignore[no-untyped-call]
    return tensor


def _quantized(
    memory: Memory,
    offset: int,
    size: tuple[int, ...],
    stride: tuple[int, ...],
    quantizer: tuple[Any, ...],
    requires_grad: bool,
    hooks: Any,
) -> Tensor:
    _require(not hooks, "hooks of a tensor")
    _require_within(memory, memory.dtype, offset, size, stride)
    # It is made as a whole before it becomes a view of what was saved.
    _require(torch.Size(size).numel() * memory.dtype.itemsize <= memory.storage.nbytes(), "more than was saved")
    with warnings.catch_warnings(action="ignore"):  # of classes that torch will remove, and uses here
        typed = TypedStorage(wrap_storage=memory.storage, dtype=memory.dtype)  # type: ignore[no-untyped-call]
        return torch._utils._rebuild_qtensor(  # type: ignore[no-untyped-call, no-any-return]
            typed, offset, size, stride, quantizer, requires_grad, OrderedDict()
        )


def _sparse(layout: torch.layout, parts: tuple[Any, ...]) -> Tensor:
    if layout is torch.sparse_coo:
        indices, values, size, is_coalesced = parts if len(parts) == 4 else (*parts, None)
        return torch.sparse_coo_tensor(indices, values, size, check_invariants=True, is_coalesced=is_coalesced)
    with warnings.catch_warnings(action="ignore"):  # of a layout that is new
        return torch.sparse_compressed_tensor(*parts, layout=layout, check_invariants=True)


def _meta(dtype: torch.dtype, size: tuple[int, ...], stride: tuple[int, ...], requires_grad: bool) -> Tensor:
    return torch.empty_strided(size, stride, dtype=dtype, device="meta", requires_grad=requires_grad)


def _parameter(data: Tensor, requires_grad: bool, hooks: Any) -> nn.Parameter:
    _require(type(data) is Tensor, "a parameter without a tensor")
    _require(not hooks, "hooks of a parameter")
    return nn.Parameter(data, requires_grad)


def _parameter_with_attributes(data: Tensor, requires_grad: bool, hooks: Any, attributes: Any) -> nn.Parameter:
    parameter = _parameter(data, requires_grad, hooks)
    give_attributes(parameter, attributes)
    return parameter


def _tensor_with_attributes(
    make: Constructor, kind: Constructor, arguments: tuple[Any, ...], attributes: Any
) -> Tensor:
    tensor = make.make(*arguments)
    _require(type(tensor) is Tensor and kind is _TENSOR, "attributes of what is no tensor")
    give_attributes(tensor, attributes)
    return tensor  # type: ignore[no-any-return]  # just checked


def _no_tensor(*_: Any) -> Any:
    raise NotPlainError("a tensor without the values that were saved")


def _view(memory: Memory, dtype: torch.dtype, offset: int, size: tuple[int, ...], stride: tuple[int, ...]) -> Tensor:
    _require_within(memory, dtype, offset, size, stride)
    return torch.empty(0, dtype=dtype, device=memory.storage.device).set_(memory.storage, offset, size, stride)


def _require_within(
    memory: Memory, dtype: torch.dtype, offset: int, size: tuple[int, ...], stride: tuple[int, ...]
) -> None:
    """Raise `NotPlainError` if elements of a tensor would lie outside its memory, which torch would enlarge."""
    _require(isinstance(memory, Memory), "a tensor without memory")
    _require_integers((offset, *size, *stride))
    last = offset + sum((length - 1) * step for length, step in zip(size, stride, strict=True))
    count = 0 if 0 in size else last + 1
    _require(count * dtype.itemsize <= memory.storage.nbytes(), f"a tensor of shape {tuple(size)} in too little memory")


def _require_integers(values: tuple[int, ...]) -> None:
    _require(all(type(value) is int and value >= 0 for value in values), "sizes that are no sizes")


def _require(condition: bool, otherwise: str) -> None:
    if not condition:
        raise NotPlainError(otherwise)


_TENSOR = Constructor("torch.Tensor", _no_tensor)

_LAYOUTS = {str(value): value for value in vars(torch).values() if isinstance(value, torch.layout)}

_CALLED: dict[str, Callable[..., Any]] = {
    "builtins.set": set,
    "builtins.bytearray": _bytearray,
    "builtins.complex": complex,
    "collections.OrderedDict": _ordered_dict,
    "collections.Counter": _counter,
    "_codecs.encode": _encoded,
    "torch.Size": _size,
    "torch.device": _device,
    "torch.serialization._get_layout": _layout,
    "torch._utils._rebuild_tensor": _tensor,
    "torch._utils._rebuild_tensor_v2": _tensor_v2,
    "torch._utils._rebuild_tensor_v3": _tensor_v3,
    "torch._utils._rebuild_qtensor": _quantized,
    "torch._utils._rebuild_sparse_tensor": _sparse,
    "torch._utils._rebuild_meta_tensor_no_storage": _meta,
    "torch._utils._rebuild_parameter": _parameter,
    "torch._utils._rebuild_parameter_with_state": _parameter_with_attributes,
    "torch._tensor._rebuild_from_type_v2": _tensor_with_attributes,
}

_ELEMENTS = {
    **{"Float": torch.float32, "Double": torch.float64, "Half": torch.float16, "BFloat16": torch.bfloat16},
    **{"Char": torch.int8, "Short": torch.int16, "Int": torch.int32, "Long": torch.int64, "Byte": torch.uint8},
    **{"Bool": torch.bool, "ComplexFloat": torch.complex64, "ComplexDouble": torch.complex128},
    **{"QInt8": torch.qint8, "QUInt8": torch.quint8, "QInt32": torch.qint32},
    **{"QUInt4x2": torch.quint4x2, "QUInt2x4": torch.quint2x4},
}
"""What torch's names for memory begin with, and the type of its elements; newer types have none."""

NAMES: dict[str, Any] = {
    **{f"torch.{name}": value for name, value in vars(torch).items() if isinstance(value, torch.dtype | torch.qscheme)},
    **{f"torch.{name}Storage": StorageType(dtype) for name, dtype in _ELEMENTS.items()},
    "torch.storage.UntypedStorage": StorageType(torch.uint8),
    "torch.Tensor": _TENSOR,
    **{name: Constructor(name, make) for name, make in _CALLED.items()},
}
"""What each name of a pickle stands for."""


def full_name(module: str, name: str) -> str:
    """Return the name in `NAMES` of what a pickle calls ``name`` in ``module``."""
    # Protocol 2 was made for Python 2, where that module had another name.
    return f"{'builtins' if module == '__builtin__' else module}.{name}"
