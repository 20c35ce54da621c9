"""A step that was compiled into something else is refused, whatever it gets wrong."""

from __future__ import annotations

import threading

import pytest
import torch
from torch import nn

from trainkit.errors import CompileError
from trainkit.testing import TinyData, TinyModule, quiet_trainer


class Miscompiled(TinyModule):
    """Stands for a wrong compiler: within a graph it computes something else.

    Args:
        wrong: What it gets wrong.
    """

    def __init__(self, wrong):
        super().__init__()
        self.wrong = wrong
        self.register_buffer("seen", torch.zeros(()))

    def loss(self, batch):
        loss = super().loss(batch)
        wrong = self.wrong if torch.compiler.is_compiling() else None
        self.seen += 2 if wrong == "buffer" else 1
        if wrong == "loss":
            return loss + (0.01 * loss).detach()
        if wrong == "gradient":
            return loss + 0.01 * (loss - loss.detach())
        return loss

    def configure_optimizers(self):
        return Plain(self.parameters(), {"lr": 0.1, "wrong": self.wrong == "update"})


class Plain(torch.optim.Optimizer):
    @torch.no_grad()
    def step(self, closure=None):
        for group in self.param_groups:
            wrong = group["wrong"] and torch.compiler.is_compiling()
            for parameter in group["params"]:
                parameter.sub_(parameter.grad * group["lr"] * (1.01 if wrong else 1))


@pytest.mark.parametrize(
    ("wrong", "named"),
    [
        ("loss", "the loss"),
        ("gradient", r"the gradient of layer\.(weight|bias)"),
        ("buffer", "the buffer seen"),
        ("update", r"the update of layer\.(weight|bias)"),
    ],
)
def test_mismatch_is_an_error_that_says_what_differs(wrong, named):
    with pytest.raises(CompileError, match=rf"eager step of Miscompiled: {named} differs[\s\S]*eager +norm"):
        quiet_trainer(compile="step").fit(Miscompiled(wrong), TinyData())


def test_right_step_is_accepted():
    module = Miscompiled(None)
    quiet_trainer(compile="step").fit(module, TinyData(num_batches=6))
    assert module.seen == 6


def test_rounding_noise_is_no_mismatch():
    class BiasBeforeBatchNorm(TinyModule):
        """The gradient of the bias is zero but for rounding, which AdamW makes whole steps of."""

        def __init__(self):
            super().__init__()
            self.norm = nn.BatchNorm1d(2)

        def forward(self, x):
            return self.norm(self.layer(x))

        def configure_optimizers(self):
            return torch.optim.AdamW(self.parameters(), lr=0.1)

    quiet_trainer(compile="step").fit(BiasBeforeBatchNorm(), TinyData(num_batches=6, batch_size=16))


@pytest.mark.filterwarnings("ignore:train/loss is nan")
def test_not_a_number_is_no_mismatch():
    class Diverging(TinyModule):
        def loss(self, batch):
            return super().loss(batch) * torch.inf

    quiet_trainer(compile="step").fit(Diverging(), TinyData())


def test_python_side_effects_happen_once():
    class Collecting(TinyModule):
        def __init__(self):
            super().__init__()
            self.losses = []

        def training_step(self, batch, batch_idx):
            loss = super().training_step(batch, batch_idx)
            self.losses.append(loss.detach())
            return loss

        def on_train_batch_end(self, outputs):
            assert len(self.losses) == 1
            assert self.losses.pop() == outputs["loss"]

    quiet_trainer(compile="step").fit(Collecting(), TinyData(num_batches=6))


def test_module_that_cannot_be_copied_is_refused():
    module = TinyModule()
    module.lock = threading.Lock()
    with pytest.raises(CompileError, match=r"copy of TinyModule[\s\S]*cannot pickle[\s\S]*locks"):
        quiet_trainer(compile="step").fit(module, TinyData())
