from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from trainkit.callbacks.model_summary.trace import trace
from trainkit.testing import assert_same_state


class Net(nn.Module):
    """Changes what a forward pass can: batch statistics, random numbers, one counter in place, one by another."""

    def __init__(self):
        super().__init__()
        self.norm = nn.BatchNorm1d(4)
        self.frozen = nn.BatchNorm1d(4).eval()
        self.drop = nn.Dropout()
        self.head = nn.Linear(4, 2)
        self.register_buffer("calls", torch.zeros(()))
        self.register_buffer("seen", torch.zeros(()))
        self.register_buffer("nothing", None)

    def forward(self, x, scale=1.0):
        self.calls = self.calls + 1
        self.seen.add_(1)
        return {"y": self.head(self.drop(self.frozen(self.norm(x)))) * scale, "noise": (torch.rand(3), None)}


@pytest.fixture
def net():
    torch.manual_seed(0)
    return Net()


def test_sizes_are_those_of_the_forward_pass(net):
    found = trace(net, torch.zeros(8, 4), flops=False)
    assert found.in_sizes["head"] == [8, 4]
    assert found.out_sizes["head"] == [8, 2]
    assert found.out_sizes[""] == {"y": [8, 2], "noise": [[3], None]}
    assert found.flops == {}


@pytest.mark.parametrize(
    "example", [(torch.zeros(8, 4), 2.0), [torch.zeros(8, 4)], {"x": torch.zeros(8, 4), "scale": 1.0}]
)
def test_an_example_may_hold_several_arguments(net, example):
    assert trace(net, example, flops=False).out_sizes["head"] == [8, 2]


def test_one_sample_is_enough_for_a_batch_norm(net):
    assert trace(net, torch.zeros(1, 4), flops=False).out_sizes["head"] == [1, 2]


def test_operations_are_counted(net):
    found = trace(net, torch.zeros(8, 4), flops=True)
    assert found.flops["head"] == found.flops[""] == 2 * 8 * 4 * 2


@pytest.mark.parametrize("raises", [False, True])
def test_nothing_of_the_forward_pass_remains(net, raises):
    before, modes = copy.deepcopy(net.state_dict()), [child.training for child in net.modules()]
    buffers = dict(net.named_buffers())
    rng = torch.get_rng_state()
    if raises:
        with pytest.raises(RuntimeError):
            trace(net, torch.zeros(8, 5), flops=True)
    else:
        trace(net, torch.randn(8, 4, generator=torch.Generator()), flops=True)
    assert_same_state(net.state_dict(), before)
    assert all(buffers[name] is buffer for name, buffer in net.named_buffers())
    assert [child.training for child in net.modules()] == modes
    assert torch.equal(torch.get_rng_state(), rng)
    assert all(parameter.grad is None for parameter in net.parameters())
    assert not any(child._forward_hooks for child in net.modules())


def test_an_example_that_does_not_fit_says_what_it_must_be(net):
    with pytest.raises(RuntimeError) as caught:
        trace(net, torch.zeros(8, 5), flops=False)
    assert "Net.example_input_array" in "".join(caught.value.__notes__)


def test_the_example_moves_to_the_module():
    net = nn.Linear(4, 2, device="meta")
    assert trace(net, torch.zeros(3, 4), flops=False).out_sizes[""] == [3, 2]
