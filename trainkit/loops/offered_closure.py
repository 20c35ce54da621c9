"""Closures for optimizers of other packages: whether one may want to evaluate the loss, and how it is given to it."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from trainkit.module.optimizers import parameters_of


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
    before: list[Tensor] | None = _norms(optimizer)

    def again() -> Any:
        nonlocal before
        was, before = before, None
        if was is not None and _are_equal(was, _norms(optimizer)):
            return first
        # An optimizer works without gradients, and not each one switches them on for the closure.
        with torch.enable_grad():
            return closure()

    return again


def _norms(optimizer: torch.optim.Optimizer) -> list[Tensor]:
    """Return what differs after a change of weights or gradients, also one past autograd's knowledge (``.data``)."""
    norms: list[Tensor] = []
    # Of a kind together, which takes a launch or two. Halves are too coarse to show a small step.
    kinds: dict[torch.dtype, list[Tensor]] = {}
    for parameter in parameters_of(optimizer):
        for tensor in (parameter.detach(), parameter.grad):
            if tensor is not None and tensor.layout is torch.strided:
                tensor = torch.view_as_real(tensor) if tensor.is_complex() else tensor
                kinds.setdefault(torch.promote_types(tensor.dtype, torch.float32), []).append(tensor)
    for dtype, tensors in kinds.items():
        norms += torch._foreach_norm(tensors, 2, dtype)
    return norms


def _are_equal(some: list[Tensor], others: list[Tensor]) -> bool:
    return len(some) == len(others) and all(map(torch.equal, some, others))
