"""Noticing that a module has got new parameters or buffers, such as those of a layer that was added in mid-fit."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain
from typing import Any

from torch import Tensor, nn
from torch.nn.modules import module as torch_module


class NewTensors:
    """Tells whether any module has been given a tensor or a layer since it was asked last, and which are new.

    torch reports each registration. Otherwise all parameters would have to be gone through at each step, which for a
    model of many layers takes as long as a part of the step.
    """

    def __init__(self) -> None:
        self._known: set[int] = set()
        self._registered = False
        self._handles: list[Any] = []

    def watch(self, module: nn.Module) -> None:
        """Take all tensors of ``module`` as known, and begin to listen."""
        self._known = {id(each) for each in tensors_of(module)}
        self._registered = False
        if not self._handles:
            self._handles = [
                torch_module.register_module_module_registration_hook(self._note),
                torch_module.register_module_parameter_registration_hook(self._note),
                torch_module.register_module_buffer_registration_hook(self._note),
            ]

    def take(self, module: nn.Module) -> list[Tensor]:
        """Return the tensors of ``module`` that have come since, which are known from now on."""
        if not self._registered:
            return []
        self._registered = False
        new = [each for each in tensors_of(module) if id(each) not in self._known]
        self._known.update(map(id, new))
        return new

    def close(self) -> None:
        """Listen no longer."""
        while self._handles:
            self._handles.pop().remove()

    def _note(self, *given: Any) -> None:
        # Whose they are is not known here: a layer is filled before it is put into the module.
        self._registered = True


def tensors_of(module: nn.Module) -> Iterator[Tensor]:
    """Return the parameters and buffers of ``module``."""
    return chain(module.parameters(), module.buffers())
