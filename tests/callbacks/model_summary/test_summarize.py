from __future__ import annotations

import pytest
import torch
from torch import nn

from trainkit.callbacks.model_summary import summarize
from trainkit.errors import ConfigError

ALL_LAYERS = ["a", "a.0", "a.1", "b", "b.0", "b.1"]


def two_blocks():
    return nn.ModuleDict(
        {"a": nn.Sequential(nn.Linear(4, 3), nn.ReLU()), "b": nn.Sequential(nn.BatchNorm1d(3), nn.Linear(3, 2))}
    )


@pytest.mark.parametrize(("depth", "names"), [(0, []), (1, ["a", "b"]), (2, ALL_LAYERS), (-1, ALL_LAYERS)])
def test_layers_are_listed_down_to_a_depth(depth, names):
    summary = summarize(two_blocks(), depth)
    assert [layer.name for layer in summary.layers] == names
    assert summary.num_params == 4 * 3 + 3 + 3 + 3 + 3 * 2 + 2


def test_a_layer_has_the_parameters_of_its_layers():
    layers = {layer.name: layer for layer in summarize(two_blocks(), 2).layers}
    assert (layers["a"].num_params, layers["a.0"].num_params, layers["a.1"].num_params) == (15, 15, 0)
    assert layers["a.0"].kind == "Linear"


def test_frozen_parameters_and_modes_are_told_apart():
    module = two_blocks()
    module["a"].requires_grad_(False).eval()
    summary = summarize(module)
    assert (summary.num_trainable, summary.num_frozen) == (14, 15)
    assert [layer.mode for layer in summary.layers] == ["eval", "train"]
    assert (summary.num_train_modules, summary.num_eval_modules) == (4, 3)


def test_shared_parameters_count_once():
    module = nn.Module()
    module.a, module.b = nn.Linear(4, 4, bias=False), nn.Linear(4, 4, bias=False)
    module.b.weight = module.a.weight
    summary = summarize(module)
    assert summary.num_params == 16
    assert [layer.num_params for layer in summary.layers] == [16, 16]


def test_parameters_that_are_in_no_layer_have_a_row():
    module = nn.Module()
    module.layer = nn.Linear(2, 2)
    module.scale = nn.Parameter(torch.ones(5))
    assert [(layer.name, layer.num_params, layer.mode) for layer in summarize(module).layers] == [
        ("layer", 6, "train"),
        ("(own)", 5, None),
    ]


def test_the_size_is_that_of_parameters_and_buffers_in_their_own_types():
    module = nn.BatchNorm1d(8, dtype=torch.float64)
    assert summarize(module).size_bytes == 2 * 8 * 8 + 2 * 8 * 8 + 8


def test_the_modules_own_example_gives_sizes():
    module = nn.Sequential(nn.Linear(4, 2))
    assert summarize(module).layers[0].in_size is None
    module.example_input_array = torch.zeros(7, 4)
    (layer,) = summarize(module).layers
    assert (layer.in_size, layer.out_size) == ([7, 4], [7, 2])
    (layer,) = summarize(module, example_input=torch.zeros(3, 4)).layers
    assert layer.in_size == [3, 4]


def test_operations_are_those_of_each_layer_and_of_all():
    module = nn.Sequential(nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 2))
    summary = summarize(module, flops=True, example_input=torch.zeros(5, 4))
    assert [layer.flops for layer in summary.layers] == [2 * 5 * 4 * 3, 0, 2 * 5 * 3 * 2]
    assert summary.flops == 2 * 5 * (4 * 3 + 3 * 2)
    assert summarize(module, example_input=torch.zeros(5, 4)).flops is None


def test_lazy_layers_stay_lazy_and_are_said_to_be_not_counted():
    module = nn.Sequential(nn.Linear(4, 3), nn.LazyLinear(2), nn.LazyBatchNorm1d())
    summary = summarize(module, example_input=torch.zeros(5, 4), flops=True)
    assert isinstance(module[1], nn.LazyLinear) and module[1].has_uninitialized_params()
    assert (summary.num_params, summary.num_lazy, summary.flops) == (15, 4, None)
    assert summary.layers[0].in_size is None
    assert "4 lazy parameters" in str(summary)


def test_counting_operations_needs_an_input():
    with pytest.raises(ConfigError, match="example_input_array"):
        summarize(nn.Linear(2, 2), flops=True)


@pytest.mark.parametrize("depth", [-2, 1.5, True])
def test_a_depth_that_cannot_be_is_refused(depth):
    with pytest.raises(ConfigError, match="max_depth"):
        summarize(nn.Linear(2, 2), depth)
