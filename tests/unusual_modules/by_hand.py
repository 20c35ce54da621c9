"""The loop by hand, which knows nothing of trainkit: what each draw has to come to."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from tests.unusual_modules.draws import NOT_THERE, Draw
from tests.unusual_modules.modules import Batch, Model


class ByHand:
    """Trains the model of ``draw`` when it is made."""

    def __init__(self, draw: Draw, data: Sequence[Batch]) -> None:
        self.draw, self.data = draw, data
        self.model = Model(draw)
        self.optimizers = self.model.make_optimizers()
        self.steps = 0
        self.hook("on_train_start")
        for epoch in range(draw.epochs):
            self.hook("on_train_epoch_start")
            if epoch == 1:
                self.model.change(self.optimizers[0])
            self.in_group, self.losses = 0, []
            for index, batch in enumerate(data):
                self.hook("on_train_batch_start", index)
                (self.automatic if draw.manual is None else self.manual)(batch, index)
                self.hook("on_train_batch_end", index)
                if self.is_over():
                    break
            if index == len(data) - 1 and draw.validation not in NOT_THERE:
                self.model.events += [("validation_step", each) for each in range(len(data))]
            self.hook("on_train_epoch_end")
            if self.is_over():
                break
        self.hook("on_train_end")

    def hook(self, name: str, batch_idx: int | None = None) -> None:
        if self.draw.hooks[name] not in NOT_THERE:
            self.model.events.append((name, batch_idx))

    def is_over(self) -> bool:
        return self.steps == self.draw.max_steps

    def manual(self, batch: Batch, index: int) -> None:
        self.model.step_by_itself(self.optimizers, Tensor.backward, batch, index)
        self.steps += index % 2 if self.draw.manual == "every second" else 1

    def automatic(self, batch: Batch, index: int) -> None:
        (optimizer,), draw = self.optimizers, self.draw
        size = min(draw.group, len(self.data) - index // draw.group * draw.group)
        self.evaluate(batch, index, size)
        if index % draw.group != draw.group - 1 and index != len(self.data) - 1:
            return
        if self.in_group:
            self.prepare(size)
            self.update(optimizer, batch, index)
            self.steps += 1
            self.hook("on_after_optimizer_step")
        self.in_group = 0

    def evaluate(self, batch: Batch, index: int, size: int) -> None:
        """Add the gradients of a batch to those of its group."""
        loss = self.model.loss(batch, index)
        if index == self.draw.skips:
            return
        if not self.in_group:
            self.losses = []
            self.hook("on_before_zero_grad")
            self.optimizers[0].zero_grad()
        (loss / size).backward()
        self.hook("on_after_backward")
        self.in_group += 1
        self.losses.append(loss.detach())

    def prepare(self, size: int) -> None:
        """Make the gradients of a group their mean, and clip them."""
        parameters = [each for group in self.optimizers[0].param_groups for each in group["params"]]
        gradients = [each.grad for each in parameters if each.grad is not None]
        for gradient in gradients:
            gradient.mul_(size / self.in_group)
        self.hook("on_before_optimizer_step")
        if self.draw.clip is not None:
            torch.nn.utils.clip_grad_norm_(parameters, self.draw.clip)

    def update(self, optimizer: Any, batch: Batch, index: int) -> None:
        kind = self.draw.optimizer.__name__
        loss = torch.stack(self.losses).mean()

        def again() -> Tensor:
            with torch.enable_grad():
                self.in_group = 0
                self.evaluate(batch, index, 1)
            self.prepare(1)
            return self.losses[-1]

        if kind in ("Sam", "SamPastAutograd"):
            optimizer.step(again)
        elif kind == "lbfgs":
            calls = iter([lambda: loss])  # the gradients of the first evaluation are there
            optimizer.step(lambda: next(calls, again)())
        elif kind == "Polyak":
            optimizer.step(lambda: loss)
        else:
            optimizer.step()
