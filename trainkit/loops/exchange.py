"""When ranks average gradients in manual optimization: after each ``manual_backward``, as in automatic optimization."""

from __future__ import annotations

from collections.abc import Iterable
from weakref import ReferenceType, ref

import torch
from torch import Tensor, nn

from trainkit.module.optimizers import parameters_of
from trainkit.reflection import overrides
from trainkit.strategies.base import Strategy


class GradientExchange:
    """Which gradients of a manual step the ranks have averaged, and those they have yet to.

    After ``manual_backward`` they are equal on all ranks, so that what the module does to them (clipping, a look at
    their norm) comes out alike everywhere. Averages that are averaged again stay what they are, so several calls for
    one update add up right. What is there ahead of an update without ``manual_backward`` (by ``loss.backward()``, or
    set by hand) is averaged then.

    Args:
        strategy: How ranks exchange.
    """

    def __init__(self, strategy: Strategy) -> None:
        self._strategy = strategy
        self._is_needed = overrides(strategy, "sync_gradients", Strategy)
        self._averaged: dict[nn.Parameter, ReferenceType[Tensor]] = {}

    def after_backward(self, module: nn.Module) -> None:
        """Average the gradients of ``module`` unless the strategy was told to wait for those of further batches."""
        if not self._is_needed:
            return
        if self._strategy.holds_back_gradients:
            self._averaged.clear()
        else:
            self._average(module)

    def before_update(self, module: nn.Module, optimizer: torch.optim.Optimizer) -> None:
        """Average the gradients of ``module`` if ``optimizer`` is about to use one that was not."""
        if self._is_needed and not self._are_averaged(parameters_of(optimizer)):
            self._average(module)

    def _average(self, module: nn.Module) -> None:
        self._strategy.sync_gradients(module)
        # Weakly: they are not to outlive `zero_grad`, in which their memory is given back.
        self._averaged = {each: ref(each.grad) for each in module.parameters() if each.grad is not None}

    def _are_averaged(self, parameters: Iterable[nn.Parameter]) -> bool:
        # By identity and not by value: what is done to the averages afterwards is done on every rank.
        known = ((each.grad, self._averaged.get(each)) for each in parameters if each.grad is not None)
        return all(reference is not None and reference() is gradient for gradient, reference in known)
