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
from types import UnionType
from typing import Any, get_args, get_origin, get_type_hints

import torch
from torch import Tensor, nn
from torch.storage import TypedStorage, UntypedStorage

from trainkit.storage.plain import NotPlainError, num_bytes_of, own_bytes_of, wrong_attribute


@dataclass(frozen=True)
class Constructor:
    """A function or class that a pickle calls.

    Attributes:
        name: Under which it is in a pickle.
        make: Makes a value of its arguments. Those are of exactly the types that it annotates: a subclass of a type,
            and a tensor in the place of a list, may take any time and memory.
    """

    name: str
    make: Callable[..., Any]

    def __call__(self, arguments: tuple[Any, ...]) -> Any:
        """Return what the pickle means by ``arguments``.

        Raises:
            NotPlainError: If one is of another type, or if it would make more than what was saved.
            Exception: Of any kind, if they do not fit together.
        """
        for argument, kinds in zip(arguments, _KINDS[self.name], strict=False):
            if type(argument) not in kinds:
                raise NotPlainError(f"{self.name} is called with a {type(argument).__name__}")
        return self.make(*arguments)


@dataclass(frozen=True)
class StorageType:
    """The name of a kind of memory, whose elements are of ``dtype``."""

    dtype: torch.dtype


@dataclass(frozen=True)
class Memory:
    """The memory of tensors, as a pickle describes it: as elements of ``dtype``."""

    storage: UntypedStorage
    dtype: torch.dtype


Sizes = tuple[int, ...] | torch.Size
Hooks = OrderedDict[Any, Any] | dict[Any, Any] | None
"""Those of a tensor, which are never saved: it is empty."""


def give_attributes(value: Any, attributes: dict[Any, Any]) -> None:
    """Give ``value`` the attributes that a pickle names."""
    for name, attribute in attributes.items():
        if wrong := wrong_attribute(value, name, attribute):
            raise NotPlainError(wrong)
    value.__dict__.update(attributes)


# Python's


def _encoded(text: str, encoding: str) -> bytes:
    # In this one pickle writes bytes; others may expand what they are given, and are imported by name.
    _require(encoding == "latin1", "text is in another encoding than latin1")
    return text.encode("latin1")


def _bytearray(content: str | bytes = b"", encoding: str = "latin-1") -> bytearray:
    return bytearray(content if isinstance(content, bytes) else _encoded(content, encoding.replace("-", "")))


def _complex(real: float, imaginary: float) -> complex:
    return complex(real, imaginary)


def _ordered_dict() -> OrderedDict[Any, Any]:
    return OrderedDict()


def _counter(counts: dict[Any, Any]) -> Counter[Any]:
    return Counter(counts)


# torch's


def _size(sizes: tuple[int, ...]) -> torch.Size:
    _require_sizes(sizes)
    return torch.Size(sizes)


def _device(kind: str, index: int | None = None) -> torch.device:
    return torch.device(kind) if index is None else torch.device(kind, index)


def _layout(name: str) -> torch.layout:
    return _LAYOUTS[name]


def _tensor(memory: Memory, offset: int, size: Sizes, stride: Sizes) -> Tensor:
    return _view(memory, memory.dtype, offset, size, stride)


def _tensor_v2(
    memory: Memory,
    offset: int,
    size: Sizes,
    stride: Sizes,
    requires_grad: bool,
    hooks: Hooks,
    metadata: dict[Any, Any] | None = None,
) -> Tensor:
    return _tensor_v3(memory, offset, size, stride, requires_grad, hooks, memory.dtype, metadata)


def _tensor_v3(
    memory: Memory,
    offset: int,
    size: Sizes,
    stride: Sizes,
    requires_grad: bool,
    hooks: Hooks,
    dtype: torch.dtype,
    metadata: dict[Any, Any] | None = None,
) -> Tensor:
    _require(not hooks, "a tensor has hooks")
    tensor = _view(memory, dtype, offset, size, stride)
    tensor.requires_grad = requires_grad
    if metadata:
        # That its values are to be conjugated, or negated.
        is_known = metadata.keys() <= {"conj", "neg"} and (dtype.is_complex or dtype.is_floating_point)
        _require(is_known and all(value is True for value in metadata.values()), "a tensor has unknown properties")
        torch._utils.set_tensor_metadata(tensor, metadata)  # type: ignore[no-untyped-call]
    return tensor


def _quantized(
    memory: Memory,
    offset: int,
    size: Sizes,
    stride: Sizes,
    quantizer: tuple[Any, ...],
    requires_grad: bool,
    hooks: Hooks,
) -> Tensor:
    _require(not hooks, "a tensor has hooks")
    _require_within(memory, memory.dtype, offset, size, stride)
    # It is made as a whole before it becomes a view of what was saved.
    count = torch.Size(size).numel()
    _require(count * memory.dtype.itemsize <= memory.storage.nbytes(), "a tensor is more than was saved")
    scheme, *numbers = quantizer
    if len(numbers) == 3:
        *tensors, axis = numbers
        _require(type(axis) is int and all(map(_has_own_memory, tensors)), "a tensor is quantized in an unknown way")
    else:
        _require([*map(type, numbers)] == [float, int], "a tensor is quantized in an unknown way")
    with warnings.catch_warnings(action="ignore"):  # of classes that torch will remove, and uses here
        typed = TypedStorage(wrap_storage=memory.storage, dtype=memory.dtype)  # type: ignore[no-untyped-call]
        return torch._utils._rebuild_qtensor(  # type: ignore[no-untyped-call, no-any-return]
            typed, offset, size, stride, (scheme, *numbers), requires_grad, OrderedDict()
        )


def _sparse(layout: torch.layout, parts: tuple[Any, ...], *, check: bool = True) -> Tensor:
    *tensors, size = parts[:3] if layout is torch.sparse_coo else parts
    _require(all(map(_has_own_memory, tensors)), "a sparse tensor is more than was saved")
    _require(type(size) in (tuple, torch.Size), "a sparse tensor has no size")
    _require_sizes(size)
    if layout is torch.sparse_coo:
        indices, values = tensors
        is_coalesced = parts[3] if len(parts) == 4 else None
        return torch.sparse_coo_tensor(indices, values, size, check_invariants=check, is_coalesced=is_coalesced)
    compressed, plain, values = tensors
    with warnings.catch_warnings(action="ignore"):  # of a layout that is new
        return torch.sparse_compressed_tensor(compressed, plain, values, size, layout=layout, check_invariants=check)


def _form_of_sparse(layout: torch.layout, parts: tuple[Any, ...]) -> Tensor:
    return _sparse(layout, parts, check=False)


def _meta(dtype: torch.dtype, size: Sizes, stride: Sizes, requires_grad: bool) -> Tensor:
    _require_sizes((*size, *stride))
    return torch.empty_strided(size, stride, dtype=dtype, device="meta", requires_grad=requires_grad)


def _parameter(data: Tensor, requires_grad: bool, hooks: Hooks) -> nn.Parameter:
    _require(not hooks, "a parameter has hooks")
    return nn.Parameter(data, requires_grad)


def _parameter_with_attributes(
    data: Tensor, requires_grad: bool, hooks: Hooks, attributes: dict[Any, Any]
) -> nn.Parameter:
    parameter = _parameter(data, requires_grad, hooks)
    give_attributes(parameter, attributes)
    return parameter


def _tensor_with_attributes(
    of: Constructor, kind: Constructor, arguments: tuple[Any, ...], attributes: dict[Any, Any]
) -> Tensor:
    _require(of.make in _MAKE_TENSORS and kind is _TENSOR, "attributes belong to what is no tensor")
    tensor: Tensor = of(arguments)
    give_attributes(tensor, attributes)
    return tensor


def _no_tensor(*sizes: int) -> Any:
    raise NotPlainError("a tensor was made without the values that were saved")


def _view(memory: Memory, dtype: torch.dtype, offset: int, size: Sizes, stride: Sizes) -> Tensor:
    _require(dtype not in _QUANTIZED, "a quantized tensor does not say how")
    _require_within(memory, dtype, offset, size, stride)
    return torch.empty(0, dtype=dtype, device=memory.storage.device).set_(memory.storage, offset, size, stride)


def _require_within(memory: Memory, dtype: torch.dtype, offset: int, size: Sizes, stride: Sizes) -> None:
    """Raise `NotPlainError` if elements of a tensor would lie outside its memory, which torch would enlarge."""
    _require_sizes((offset, *size, *stride))
    last = offset + sum((length - 1) * step for length, step in zip(size, stride, strict=True))
    count = offset if 0 in size else last + 1
    _require(count * dtype.itemsize <= memory.storage.nbytes(), "a tensor is more than was saved")


def _has_own_memory(value: Any) -> bool:
    """Whether ``value`` is a tensor all of whose elements were saved."""
    if type(value) is not Tensor or value.layout is not torch.strided:
        return False
    return num_bytes_of(value) <= own_bytes_of(value)


def _require_sizes(values: Sizes) -> None:
    _require(all(type(value) is int and 0 <= value < 2**63 for value in values), "a size is no size")


def _require(condition: bool, otherwise: str) -> None:
    if not condition:
        raise NotPlainError(otherwise)


_TENSOR = Constructor("torch.Tensor", _no_tensor)
_MAKE_TENSORS = (_tensor, _tensor_v2, _tensor_v3, _quantized, _sparse, _form_of_sparse, _meta)
_LAYOUTS = {str(value): value for value in vars(torch).values() if isinstance(value, torch.layout)}

_CALLED: dict[str, Callable[..., Any]] = {
    "builtins.bytearray": _bytearray,
    "builtins.complex": _complex,
    "collections.OrderedDict": _ordered_dict,
    "collections.Counter": _counter,
    "_codecs.encode": _encoded,
    "torch.Tensor": _no_tensor,
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

_QUANTIZED = frozenset(dtype for name, dtype in _ELEMENTS.items() if name.startswith("Q"))

NAMES: dict[str, Any] = {
    **{f"torch.{name}": value for name, value in vars(torch).items() if isinstance(value, torch.dtype | torch.qscheme)},
    **{f"torch.{name}Storage": StorageType(dtype) for name, dtype in _ELEMENTS.items()},
    "torch.storage.UntypedStorage": StorageType(torch.uint8),
    **{name: Constructor(name, make) for name, make in _CALLED.items()},
    "torch.Tensor": _TENSOR,
    "builtins.set": Constructor("builtins.set", set),  # made by the unpickler, which looks how long it takes
}
"""What each name of a pickle stands for."""

NAMES_OF_FORMS = {
    **NAMES,
    "torch._utils._rebuild_sparse_tensor": Constructor("torch._utils._rebuild_sparse_tensor", _form_of_sparse),
}
"""The same where the values of tensors were not read, and so cannot be indices of others."""


def full_name(module: str, name: str) -> str:
    """Return the name in `NAMES` of what a pickle calls ``name`` in ``module``."""
    # Protocol 2 was made for Python 2, where that module had another name.
    return f"{'builtins' if module == '__builtin__' else module}.{name}"


def _annotated(make: Callable[..., Any]) -> tuple[frozenset[type], ...]:
    """Return the types that ``make`` takes for each argument by position."""
    hints = [hint for name, hint in get_type_hints(make).items() if name not in ("check", "return")]
    unions = [get_args(hint) if isinstance(hint, UnionType) else (hint,) for hint in hints]
    return tuple(frozenset(get_origin(each) or each for each in union) for union in unions)


_KINDS = {name: _annotated(make) for name, make in _CALLED.items()} | {"builtins.set": (frozenset[type](),)}
