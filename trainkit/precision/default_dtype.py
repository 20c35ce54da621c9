"""`DefaultDtype`: sets the dtype of new tensors for the time of a context."""

from __future__ import annotations

from contextlib import AbstractContextManager

import torch


class DefaultDtype(AbstractContextManager[None]):
    """Within it, floating-point tensors made without a dtype have this one. It may be entered again, also nested.

    Args:
        dtype: A floating-point dtype.
    """

    def __init__(self, dtype: torch.dtype) -> None:
        self.dtype = dtype
        self._before: list[torch.dtype] = []  # a stack, as one object is entered for every batch and may nest

    def __enter__(self) -> None:
        self._before.append(torch.get_default_dtype())
        torch.set_default_dtype(self.dtype)

    def __exit__(self, *error: object) -> None:
        torch.set_default_dtype(self._before.pop())
