"""Train and eval modes of modules, and their buffers: kept, and put back."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn


class Snapshot:
    """The mode of a module and of each submodule, so that one that was frozen in eval mode stays so, and the buffers.

    Args:
        module: What may change.
        buffers: Whether to keep a copy of each buffer too.
    """

    def __init__(self, module: nn.Module, *, buffers: bool = False) -> None:
        self._modes = [(submodule, submodule.training) for submodule in module.modules()]
        self._buffers: list[tuple[dict[str, Tensor | None], str, Tensor, Tensor]] = [
            (submodule._buffers, name, buffer, buffer.detach().clone())
            for submodule in (module.modules() if buffers else ())
            for name, buffer in submodule._buffers.items()
            if buffer is not None
        ]

    def restore(self) -> None:
        """Put back what was kept, as often as needed. Buffers are the same objects again, with their former values."""
        for submodule, training in self._modes:
            submodule.training = training
        with torch.no_grad():
            for owner, name, buffer, value in self._buffers:
                buffer.copy_(value)
                owner[name] = buffer


@contextmanager
def modes_kept(module: nn.Module, *, buffers: bool = False) -> Iterator[None]:
    """Put the modes of a module and of its submodules back afterwards, and on request the buffers; see `Snapshot`."""
    before = Snapshot(module, buffers=buffers)
    try:
        yield
    finally:
        before.restore()
