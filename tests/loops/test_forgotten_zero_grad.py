from __future__ import annotations

import warnings
from typing import Any

import pytest
import torch

from trainkit.testing import TinyData, TinyModule, quiet_trainer


class Manual(TinyModule):
    """Clears its gradients in one of several ways, or in none."""

    def __init__(self, way: str) -> None:
        super().__init__()
        self.automatic_optimization = False
        self.way = way

    def training_step(self, batch: Any, batch_idx: int) -> None:
        optimizer, way = self.optimizers(), self.way
        if way == "before":
            optimizer.zero_grad()
        elif way == "module":
            self.zero_grad()
        elif way == "zeros":
            optimizer.zero_grad(set_to_none=False)
        elif way == "past autograd":
            for parameter in self.parameters():
                if parameter.grad is not None:
                    parameter.grad.data.zero_()
        loss = self.loss(batch)
        if way == "between":
            optimizer.zero_grad()
        loss.backward() if way == "plain backward" else self.manual_backward(loss)
        if way.startswith("clip"):
            torch.nn.utils.clip_grad_norm_(self.parameters(), 1.0)
        if way.startswith("group") and batch_idx % 2 == 0:
            return
        optimizer.step()
        if way in ("after", "group"):
            optimizer.zero_grad()
        elif way == "clip, zeros after":
            self.zero_grad(set_to_none=False)
        elif way == "once more, past autograd":
            self.manual_backward(self.loss(batch))
            self.layer.weight.grad.data.zero_()
            self.layer.bias.grad.data.zero_()
        elif way == "once more":  # as the loss of a generator leaves gradients in the discriminator
            self.manual_backward(self.loss(batch))
            optimizer.zero_grad()
        elif way == "by hand":
            self.layer.weight.grad.mul_(0.9)
            self.layer.bias.grad.mul_(0.9)


def told(way: str, **arguments: Any) -> list[str]:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        module = Manual(way)
        quiet_trainer(**({"max_epochs": 2} | arguments)).fit(module, TinyData(4))
    assert not any(parameter._backward_hooks for parameter in module.parameters())
    return [str(each.message) for each in caught]


@pytest.mark.parametrize("way", ["never", "plain backward", "clip", "group, never"])
def test_gradients_that_nothing_clears_are_told_once(way: str) -> None:
    (message,) = told(way)
    assert message.startswith("SGD makes its second update with the gradients of the first one")
    assert "optimizer.zero_grad()" in message


CLEARED = ["before", "module", "zeros", "between", "after", "group", "clip, zeros after", "once more", "by hand"]
CLEARED += ["past autograd", "once more, past autograd"]


@pytest.mark.parametrize("way", CLEARED)
def test_gradients_that_are_cleared_in_any_way_are_not(way: str) -> None:
    assert told(way) == []


def test_one_update_leaves_nothing_behind() -> None:
    assert told("never", max_epochs=1, limit_train_batches=1) == []


def test_a_parameter_that_is_frozen_by_now_ends_no_run() -> None:
    class Freezes(Manual):
        def training_step(self, batch: Any, batch_idx: int) -> None:
            self.manual_backward(self.loss(batch))
            self.layer.bias.requires_grad_(False)  # with a gradient
            self.optimizers().step()

    with pytest.warns(UserWarning, match="second update"):
        quiet_trainer(max_epochs=1).fit(Freezes("never"), TinyData(4))
