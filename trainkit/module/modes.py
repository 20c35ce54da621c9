"""Modes (train or eval) and buffers of a module: copied, and restored later."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from trainkit.module.weight_names import translated
from trainkit.module.writable import is_read_only


class Snapshot:
    """The mode of a module and of each submodule, and on request a copy of its buffers.

    Args:
        module: The module, which may change from now on.
        buffers: Whether to copy the buffers too.
    """

    def __init__(self, module: nn.Module, *, buffers: bool = False) -> None:
        # Each submodule for itself: ``module.train()`` would also unfreeze those that the user keeps in eval mode.
        self._modes = [(submodule, submodule.training) for submodule in module.modules()]
        self._buffers: list[tuple[dict[str, Tensor | None], str, Tensor | None, Tensor | None]] = [
            (submodule._buffers, name, buffer, None if buffer is None else buffer.detach().clone())
            for submodule in (module.modules() if buffers else ())
            for name, buffer in submodule._buffers.items()
            if buffer is None or not is_lazy(buffer)
        ]

    def restore(self) -> None:
        """Restore modes and buffers, as often as needed. Buffers are the same objects again, with their old values."""
        for submodule, training in self._modes:
            submodule.training = training
        with torch.no_grad():
            # Values and objects: forward may write into a buffer, or assign another tensor (``self.count = ...``).
            for owner, name, buffer, value in self._buffers:
                owner[name] = buffer  # None again where a forward has made it of its first batch
                if buffer is None or value is None or is_read_only(buffer):  # no forward has written into it either
                    continue
                if buffer.shape != value.shape:
                    buffer.resize_(value.shape)  # a forward may have let it grow
                buffer.copy_(value)


@dataclass(frozen=True)
class Flags:
    """What a module is trained with that is in no ``state_dict``.

    Attributes:
        frozen: Names of the parameters that do not require gradients.
        in_eval: Names of the submodules in eval mode; that of the module itself is "".
    """

    frozen: list[str]
    in_eval: list[str]

    @classmethod
    def of(cls, module: nn.Module) -> Self:
        """Return those of ``module``."""
        frozen = [name for name, parameter in module.named_parameters() if not parameter.requires_grad]
        return cls(frozen, [name for name, child in module.named_modules() if not child.training])

    def apply(self, module: nn.Module, known: Iterable[str] | None = None) -> None:
        """Give them to ``module``.

        Args:
            module: The module.
            known: The names that weights had when these were noted: others, as of layers that were renamed since, are
                left as they are. None if that is not known.
        """
        parameters, children = dict(module.named_parameters()), dict(module.named_modules())
        frozen, in_eval = _named_now(self.frozen, parameters), _named_now(self.in_eval, children)
        known_now = parameters.keys() if known is None else _named_now([*known], parameters)
        for name, parameter in parameters.items():
            if name not in known_now:
                continue
            # Whole numbers cannot require gradients, so they are among the frozen ones or new.
            if parameter.is_floating_point() or parameter.is_complex():
                parameter.requires_grad = name not in frozen
        for name, child in children.items():
            child.training = name not in in_eval


def _named_now(saved: list[str], own: Iterable[str]) -> set[str]:
    """Return saved names as they are now: of a module that was compiled, or is now, they are others."""
    names = translated(saved, own)
    return {names.get(name, name) for name in saved}


@contextmanager
def modes_kept(module: nn.Module, *, buffers: bool = False) -> Iterator[None]:
    """Restore the modes of a module and its submodules on leaving, and on request the buffers; see `Snapshot`."""
    before = Snapshot(module, buffers=buffers)
    try:
        yield
    finally:
        before.restore()
