from __future__ import annotations

import copy
import random

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


def test_attention_is_counted_whatever_kernel_it_has():
    attention = nn.MultiheadAttention(8, 2, batch_first=True)
    x = torch.zeros(1, 3, 8)
    # Four projections of 3 tokens, and two products of 3 by 3 scores with 2 heads of 4.
    expected = 4 * 2 * 3 * 8 * 8 + 2 * 2 * 2 * 3 * 3 * 4
    assert trace(attention, (x, x, x), flops=True).flops[""] == expected
    layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
    found = trace(layer, x, flops=True)
    assert found.flops["self_attn"] == expected
    assert found.flops[""] == expected + 2 * 2 * 3 * 8 * 16
    assert torch.backends.mha.get_fastpath_enabled()


@pytest.mark.parametrize("kind", [nn.RNN, nn.GRU, nn.LSTM])
def test_recurrent_layers_are_counted(kind):
    gates = {nn.RNN: 1, nn.GRU: 3, nn.LSTM: 4}[kind]
    assert trace(kind(4, 6), torch.zeros(5, 1, 4), flops=True).flops[""] == 2 * 5 * gates * 6 * (4 + 6)


class Drawn(nn.Module):
    """Blocks of layers of drawn widths, some of them one object in several places, called several times each."""

    def __init__(self, draw, shared, depth=0):
        super().__init__()
        self.calls = []
        for index in range(draw.randint(1, 3)):
            layer = draw.choice(shared) if depth or draw.random() < 0.5 else Drawn(draw, shared, depth + 1)
            # Of two names in one place the first counts.
            if layer not in self.children():
                self.add_module(f"part{index}", layer)
                self.calls += [f"part{index}"] * draw.randint(0, 2)

    def forward(self, x):
        for name in self.calls:
            x = self._modules[name](x)
        return x

    def expected(self, place, flops):
        """Count by hand, under each name."""
        own = 0
        for name in self.calls:
            part, below = self._modules[name], f"{place}{name}"
            once = part.expected(f"{below}.", flops) if isinstance(part, Drawn) else 2 * 3 * 4 * 4
            flops[below] = flops.get(below, 0) + once
            own += once
        return own


@pytest.mark.parametrize("seed", range(50))
def test_a_layer_in_several_places_is_counted_in_each(seed):
    draw = random.Random(seed)
    net = Drawn(draw, [nn.Linear(4, 4) for _ in range(2)])
    expected = {}
    total = net.expected("", expected)
    assert trace(net, torch.zeros(3, 4), flops=True).flops == {**expected, "": total}


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


def test_a_bilinear_layer_counts():
    class Module(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = torch.nn.Bilinear(3, 4, 5)

        def forward(self, x, y):
            return self.layer(x, y)

    first = 2 * 7 * 3 * 5 * 4  # with the first input, for each output and each element of the second
    found = trace(Module(), (torch.zeros(7, 3), torch.zeros(7, 4)), flops=True)
    assert found.flops["layer"] == first + 2 * 7 * 5 * 4
