"""Optimizers as other packages have them: each makes one update of stochastic gradient descent, in its own way."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

LR, RHO = 0.1, 0.05


class Own(torch.optim.Optimizer):
    """The base: an optimizer that is not torch's."""

    def __init__(self, params: Any) -> None:
        super().__init__(params, {})

    def trained(self) -> list[Tensor]:
        return [each for group in self.param_groups for each in group["params"] if each.grad is not None]

    @torch.no_grad()
    def descend(self, lr: float | Tensor = LR) -> None:
        for parameter in self.trained():
            parameter.sub_(lr * parameter.grad)


class Deaf(Own):
    """Takes a closure and never calls it."""

    def step(self, closure: Any = None) -> None:
        self.descend()


class WithoutClosure(Own):
    """Takes none."""

    def step(self) -> None:
        self.descend()


class Polyak(Own):
    """Needs the loss, and asks for it without gradients switched on."""

    @torch.no_grad()
    def step(self, closure: Any) -> None:
        self.descend(LR * closure())


class Sam(Own):
    """Needs gradients before, and the closure for those at another place."""

    past_autograd = False

    def first_step(self) -> None:
        self.moved = [(each, each.detach().clone()) for each in self.trained()]
        with torch.no_grad():
            for parameter, _ in self.moved:
                (parameter.data if self.past_autograd else parameter).add_(RHO * parameter.grad)

    @torch.no_grad()
    def second_step(self) -> None:
        for parameter, value in self.moved:
            parameter.copy_(value)
        self.descend()

    def step(self, closure: Any = None) -> None:
        assert closure is not None, "needs a closure"
        self.first_step()
        closure()
        self.second_step()


class SamPastAutograd(Sam):
    past_autograd = True


class Around(Own):
    """Leaves the update to another optimizer, which shares its groups, and has a second name for its step."""

    def __init__(self, params: Any) -> None:
        super().__init__(params)
        self.base = torch.optim.SGD(self.param_groups, lr=LR)
        self.param_groups, self.defaults = self.base.param_groups, self.base.defaults

    def step(self, closure: Any = None) -> Any:
        return self.base.step(closure)

    def second_step(self) -> None:
        self.base.step()


class Subclass(torch.optim.SGD):
    """Has a step of its own around torch's."""

    def __init__(self, params: Any) -> None:
        super().__init__(params, lr=LR)

    def step(self, closure: Any = None) -> Any:
        return super().step(closure)


def sgd(params: Any) -> torch.optim.Optimizer:
    return torch.optim.SGD(params, lr=LR, momentum=0.9)


def adam(params: Any) -> torch.optim.Optimizer:
    return torch.optim.Adam(params, lr=LR)


def lbfgs(params: Any) -> torch.optim.Optimizer:
    return torch.optim.LBFGS(params, lr=LR, max_iter=3)
