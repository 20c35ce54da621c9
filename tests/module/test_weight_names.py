from __future__ import annotations

import random

import pytest
import torch
from torch import nn

from trainkit.module.weight_names import named_as_in, prefix_before, translated

WRAPPERS = ["_orig_mod", "module", "_fsdp_wrapped_module", "_checkpoint_wrapped_module"]


def drawn_net(draw, depth=0):
    """A net of layers with drawn names, one of which may be that of a wrapper."""
    net = nn.Module()
    for name in draw.sample(["encoder", "head", "norm", "module", "0"], draw.randint(1, 3)):
        is_leaf = depth == 2 or draw.random() < 0.5
        net.add_module(name, nn.BatchNorm1d(2) if is_leaf else drawn_net(draw, depth + 1))
    return net


def wrapped(net, wrapper):
    holder = nn.Module()
    holder.add_module(wrapper, net)
    return holder


def wrapped_within(draw, net):
    """``net`` with some of its submodules in a wrapper."""
    for name, child in list(net.named_children()):
        wrapped_within(draw, child)
        if draw.random() < 0.3:
            net._modules[name] = wrapped(child, "_orig_mod")
    return net


@pytest.mark.parametrize("seed", range(50))
def test_weights_of_a_wrapped_module_are_those_of_the_bare_one(seed):
    draw = random.Random(seed)
    net = drawn_net(draw)
    bare = net.state_dict(keep_vars=True)
    around = net
    for wrapper in draw.choices(WRAPPERS, k=draw.randint(1, 2)):
        around = wrapped(around, wrapper)
    held = around.state_dict(keep_vars=True)
    assert {name: id(value) for name, value in named_as_in(bare, held).items()} == {n: id(v) for n, v in bare.items()}
    assert {name: id(value) for name, value in named_as_in(held, bare).items()} == {n: id(v) for n, v in held.items()}


@pytest.mark.parametrize("seed", range(50))
def test_each_name_goes_to_the_weight_that_it_is_of_or_to_none(seed):
    draw = random.Random(seed)
    net = drawn_net(draw)
    names = {id(value): name for name, value in net.state_dict(keep_vars=True).items()}
    inner = wrapped_within(draw, net).state_dict(keep_vars=True)
    right = {name: names[id(value)] for name, value in inner.items()}
    found = translated(inner, right.values())
    assert {name: right[name] for name in found} == found
    # Found is each whose wrappers are the only ones of their kind.
    if not any("module" in name.split(".")[:-1] for name in right.values()):
        assert {name: found.get(name, name) for name in inner} == right


def test_a_layer_may_have_the_name_of_a_wrapper():
    own = ["module.weight", "weight"]
    assert translated(["module.weight", "weight"], own) == {}
    assert translated(["module.module.weight", "module.weight"], own) == {
        "module.module.weight": "module.weight",
        "module.weight": "weight",
    }
    # It cannot be told which of the two is meant.
    assert translated(["_orig_mod.weight", "bias"], own) == {}


def test_other_names_and_additional_ones_stay():
    average = {"n_averaged": 1, "module.weight": 2, "module.head.bias": 3}
    assert named_as_in(["weight"], average) == {"n_averaged": 1, "weight": 2, "module.head.bias": 3}


def test_what_torch_itself_wraps_is_recognised():
    net = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2))
    for other in (torch.compile(net), nn.DataParallel(net), torch.compile(nn.DataParallel(net))):
        assert named_as_in(net.state_dict(), other.state_dict()).keys() == net.state_dict().keys()
        assert named_as_in(other.state_dict(), net.state_dict()).keys() == other.state_dict().keys()


def test_a_prefix_is_found_where_it_is_one():
    assert prefix_before(["model.net.weight", "model.net.bias", "n"], ["net.weight", "net.bias"]) == "model."
    assert prefix_before(["a.weight", "b.weight"], ["weight"]) == ""
    assert prefix_before(["a.weight"], ["bias"]) == ""
