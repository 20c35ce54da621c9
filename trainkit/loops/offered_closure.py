"""Closures for optimizers of other packages: whether one may want to evaluate the loss, and how it is given to it."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from trainkit.module.optimizers import parameters_of

_SAMPLES = 256
"""How many entries of a tensor are compared, at most. Whoever moves weights moves nearly all of them."""


def needs_closure(optimizer: torch.optim.Optimizer) -> bool:
    """Whether ``step`` cannot be called without a closure; so it is with `torch.optim.LBFGS`."""
    _, *parameters = inspect.signature(type(optimizer).step).parameters.values()
    return any(p.default is p.empty and p.kind is not p.VAR_KEYWORD for p in parameters)


def may_want_closure(optimizer: torch.optim.Optimizer) -> bool:
    """Whether ``step`` is not torch's own and takes a closure: nobody knows whether it can do without."""
    step = type(optimizer).step
    is_of_torch = step.__module__.split(".")[0] == "torch"
    return not is_of_torch and ("closure" in inspect.signature(step).parameters or needs_closure(optimizer))


def evaluated_ahead(closure: Callable[[], Any], optimizer: torch.optim.Optimizer) -> Callable[[], Any]:
    """Call ``closure``, and return one that does not do so again where its first call would repeat it.

    So one and the same loop serves all: an optimizer that never calls it (and finds the gradients in place), one that
    calls it once for the loss, and one that first moves the weights by the gradients that are there, such as SAM.
    """
    first = closure()
    before: _Seen | None = _Seen(optimizer)

    def again() -> Any:
        nonlocal before
        was, before = before, None
        if was is not None and was.equals(_Seen(optimizer)):
            return first
        # An optimizer works without gradients, and not each one switches them on for the closure.
        with torch.enable_grad():
            return closure()

    return again


class _Seen:
    """What differs after a change of the weights or gradients of ``optimizer``.

    Every change that autograd knows of counts up a version. Past its knowledge (``.data``) values are changed, and a
    sample of each tensor is kept for these: all weights would take as long to look through as to update.
    """

    def __init__(self, optimizer: torch.optim.Optimizer) -> None:
        parameters = list(parameters_of(optimizer))
        tensors = [each for each in (*parameters, *(parameter.grad for parameter in parameters)) if each is not None]
        # Not the tensors themselves, which would stay in memory while the loss is computed again.
        self._versions = [(id(each), each._version) for each in tensors]
        self._samples = _samples(tensors)

    def equals(self, other: _Seen) -> bool:
        """Whether nothing has changed from one to the other. Waits for the device if the versions are equal."""
        return self._versions == other._versions and all(map(torch.equal, self._samples, other._samples))


def _samples(tensors: list[Tensor]) -> list[Tensor]:
    """Return the bytes of some entries of each tensor, spread evenly over it; those of a kind are in one tensor."""
    kinds: dict[tuple[torch.dtype, torch.device], list[Tensor]] = {}
    for tensor in tensors:
        if tensor.layout is torch.strided:
            step = tensor.numel() // _SAMPLES + 1
            kinds.setdefault((tensor.dtype, tensor.device), []).append(tensor.detach().flatten()[::step])
    # As bytes, in which NaN equals NaN: a loss that is NaN is no reason to compute it twice.
    return [torch.cat(some).view(torch.uint8) for some in kinds.values()]
