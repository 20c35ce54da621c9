"""Manual optimization without ``zero_grad``: the gradients of one update are there when those of the next come."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from trainkit.module.optimizers import parameters_of
from trainkit.output import warn


class GradientWatch:
    """Looks, between the first and the second update of each optimizer, whether its gradients are cleared.

    One parameter of each stands for all. Gradients that are set to None or changed in any way count as cleared, since
    whoever scales them knows that they are there. Nothing is read from the device unless a warning is near.
    """

    def __init__(self) -> None:
        self._watched: dict[int, _Watched] = {}  # by id of the optimizer

    def before_update(self, optimizer: torch.optim.Optimizer) -> None:
        """Warn if what the last update used is still in what this one is about to use."""
        watched = self._watched.get(id(optimizer))
        if watched is not None and watched.end():
            warn(
                f"{type(optimizer).__name__} makes its second update with the gradients of the first one added to its "
                "own: nothing has cleared them. Call optimizer.zero_grad() ahead of manual_backward.",
            )

    def after_update(self, optimizer: torch.optim.Optimizer) -> None:
        """Begin to watch, if it was the first update of ``optimizer``."""
        if id(optimizer) not in self._watched:
            used = [parameter for parameter in parameters_of(optimizer) if _can_be_watched(parameter)]
            if used:
                self._watched[id(optimizer)] = _Watched(min(used, key=lambda parameter: parameter.numel()))

    def close(self) -> None:
        """Take back what was attached to parameters, since no other update may come."""
        for watched in self._watched.values():
            watched.end()


def _can_be_watched(parameter: nn.Parameter) -> bool:
    """Whether it has a gradient that another one would be added to; one that is frozen by now gets no other."""
    gradient = parameter.grad
    return parameter.requires_grad and gradient is not None and gradient.layout is torch.strided


class _Watched:
    """A parameter, and whether its gradient since it began was added to and nothing else."""

    def __init__(self, parameter: nn.Parameter) -> None:
        self._parameter = parameter
        self._gradient = parameter.grad
        self._version = self._now()
        self._added = 0
        self._kept = True
        # Past autograd (``grad.data.zero_()``) no version is counted, so the values are compared as well.
        self._expected = None if self._gradient is None else self._gradient.detach().clone()
        self._differs: Tensor | bool = False
        handle = parameter.register_hook(self._before_adding)  # type: ignore[no-untyped-call]  # torch leaves it untyped
        self._handle: torch.utils.hooks.RemovableHandle | None = handle

    def end(self) -> bool:
        """Stop watching; return whether the gradient has been kept and added to. False if it has ended before."""
        if self._handle is None:
            return False
        self._handle.remove()
        self._handle = None
        kept = self._kept and self._added > 0 and self._parameter.grad is self._gradient and not self._differs
        self._gradient = self._expected = None
        return kept

    def _before_adding(self, new: Tensor) -> None:
        # Each addition in place counts the version up by one; clearing, clipping and scaling do too.
        same = self._parameter.grad is self._gradient and self._now() == self._version + self._added
        self._kept = self._kept and same and new.layout is torch.strided
        self._added += 1
        if self._kept and self._gradient is not None and self._expected is not None:
            self._differs = self._differs | (self._gradient != self._expected).any()
            self._expected = self._expected + new.detach()

    def _now(self) -> int:
        return 0 if self._gradient is None else self._gradient._version
