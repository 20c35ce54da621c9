"""What stands in a checkpoint for a tensor whose values are in other files, and were not read yet."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol, Self

import torch
from torch import Tensor

from trainkit.errors import CheckpointError

SAVED_AS = "saved_as"
PLACEMENTS = "placements"
"""The attributes of the tensor without data that stands for a sharded one in the file of everything else: its key, and
for each dimension of the mesh the dimension of the tensor that was split there, or -1."""

_ATTRIBUTES = (
    *("shape", "dtype", "device", "layout", "ndim", "itemsize", "nbytes", "requires_grad", "grad_fn", "is_leaf"),
    *("is_meta", "is_cpu", "is_cuda", "is_sparse", "is_quantized", "is_nested"),
)
_FORM = frozenset(
    {
        *(getattr(Tensor, name).__get__ for name in _ATTRIBUTES),
        *(Tensor.size, Tensor.stride, Tensor.dim, Tensor.numel, Tensor.element_size, Tensor.__len__),
        *(Tensor.is_complex, Tensor.is_floating_point, Tensor.is_signed, Tensor.is_contiguous),
        *(torch.numel, torch.is_complex, torch.is_floating_point),
    }
)
"""What may be asked of a tensor without its values."""


class Files(Protocol):
    """Where values are read from."""

    def read_into(self, targets: Mapping[str, Tensor]) -> None:
        """Fill ``targets``, by their keys."""


class SavedTensor(Tensor):
    """The form of a tensor in a sharded checkpoint, and where its values are.

    It may be renamed, dropped, and asked for its shape and dtype; whatever else is asked of it is an error. It is read
    where its place in a module or an optimizer is known, and then each rank reads its own part.

    Attributes:
        saved_as: The key of the tensor in the checkpoint.
        placements: For each dimension of the mesh of ranks that has saved it, the dimension that was split; -1 if none.
    """

    saved_as: str
    placements: tuple[int, ...]
    _files: Files

    @classmethod
    def of(cls, form: Tensor, saved_as: str, placements: Sequence[int], files: Files) -> Self:
        """Return what stands for a tensor of the shape and dtype of ``form``, a tensor without data.

        Args:
            form: The form.
            saved_as: See the class.
            placements: See the class.
            files: Has the values.
        """
        made = form.detach().as_subclass(cls)
        made.saved_as, made.placements = saved_as, tuple(placements)
        made._files = files
        return made

    def read(self, into: Tensor | None = None) -> Tensor:
        """Read the values: the whole tensor, on the CPU of this rank, checked as everything that is read.

        Args:
            into: What to fill, and return; None makes one.

        Raises:
            CheckpointError: If they are damaged, or not there any more.
        """
        whole = torch.empty(self.shape, dtype=self.dtype) if into is None else into
        self._files.read_into({self.saved_as: whole})
        return whole

    def read_like(self, like: Tensor) -> Tensor:
        """Read the values that ``like`` has of its own shape, onto its device: of a ``DTensor`` this rank's part."""
        read = torch.empty_like(like.detach(), dtype=self.dtype)
        self._files.read_into({self.saved_as: read})
        return read

    @classmethod
    def __torch_function__(
        cls, func: Callable[..., Any], types: Sequence[type], args: Sequence[Any] = (), kwargs: Any = None
    ) -> Any:
        if func in (Tensor.detach, Tensor.requires_grad_):
            return args[0]
        if func in _FORM:
            return super().__torch_function__(func, types, args, kwargs)  # type: ignore[no-untyped-call]  # torch's
        name = getattr(func, "__name__", str(func))
        name = getattr(getattr(func, "__self__", None), "__name__", name) if name in ("__get__", "__set__") else name
        raise CheckpointError(
            f"{name} was asked of a tensor of a sharded checkpoint, whose values are not read yet.\n"
            "    to do        in on_load_checkpoint rename it or leave it out as it is; to compute with it, read it "
            "first:\n"
            "                 weights[name] = weights[name].read() * 2, the whole tensor, on each rank"
        )

    def __deepcopy__(self, memo: Any) -> Self:
        # It does not change.
        return self

    def __reduce_ex__(self, protocol: Any) -> Any:
        raise CheckpointError(
            "a tensor of a sharded checkpoint, whose values are not read yet, cannot be saved. Read it first: .read()"
        )

    def __repr__(self, **_: Any) -> str:  # type: ignore[override]  # torch's takes what is in it
        return f"SavedTensor({self.saved_as!r}, shape={tuple(self.shape)}, dtype={self.dtype})"

    __str__ = __repr__

    def __format__(self, spec: str) -> str:
        return format(repr(self), spec)
