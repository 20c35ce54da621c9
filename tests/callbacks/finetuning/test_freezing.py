from __future__ import annotations

import warnings

import pytest
import torch
from torch import nn

from trainkit.callbacks.finetuning.freezing import (
    filter_on_optimizer,
    filter_params,
    flatten_modules,
    freeze,
    freeze_module,
    make_trainable,
    unfreeze_and_add_param_group,
)


class Scaled(nn.Sequential):
    """Has children, and a parameter of its own."""

    def __init__(self) -> None:
        super().__init__(nn.Linear(2, 2), nn.Sequential(nn.BatchNorm1d(2), nn.ReLU()))
        self.scale = nn.Parameter(torch.ones(()))


def trained(module: nn.Module) -> list[str]:
    return [name for name, parameter in module.named_parameters() if parameter.requires_grad]


def test_modules_are_flattened_to_those_with_parameters_or_without_children() -> None:
    net, other = Scaled(), nn.Dropout()
    flat = [net, net[0], net[1][0], net[1][1]]
    assert flatten_modules(net) == flat
    assert flatten_modules([other, [net, (other,)]]) == [other, *flat, other]
    assert flatten_modules(nn.ModuleDict({"a": net}).values()) == flat


def test_parameters_are_found_by_whether_they_are_trained_and_none_twice() -> None:
    net = Scaled()
    net[0].bias.requires_grad = False
    assert list(filter_params(net)) == [net.scale, net[0].weight, *net[1][0].parameters()]
    assert list(filter_params(net, train_bn=False)) == [net.scale, net[0].weight]
    assert list(filter_params(net, requires_grad=False)) == [net[0].bias]


@pytest.mark.parametrize("train_bn", [True, False])
def test_what_is_frozen_is_not_trained_and_statistics_stand_still_with_their_layer(train_bn: bool) -> None:
    net = Scaled()
    freeze(net, train_bn=train_bn)
    assert trained(net) == (["1.0.weight", "1.0.bias"] if train_bn else [])
    assert net[1][0].track_running_stats is train_bn
    make_trainable(net)
    assert trained(net) == ["scale", "0.weight", "0.bias", "1.0.weight", "1.0.bias"]
    assert net[1][0].track_running_stats


def test_a_module_may_be_frozen_without_its_children() -> None:
    net = Scaled()
    freeze_module(net)
    assert trained(net) == ["0.weight", "0.bias", "1.0.weight", "1.0.bias"]
    freeze_module(net[1][0])
    assert trained(net) == ["0.weight", "0.bias"]
    assert not net[1][0].track_running_stats


def test_what_an_optimizer_has_already_is_left_out_with_a_warning() -> None:
    net = Scaled()
    optimizer = torch.optim.SGD([{"params": [net.scale]}, {"params": [net[0].weight]}], lr=0.1)
    with pytest.warns(UserWarning, match=r"2 parameters to be unfrozen are in SGD already.*lambda p: p.requires_grad"):
        assert filter_on_optimizer(optimizer, net.parameters()) == [net[0].bias, *net[1][0].parameters()]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert filter_on_optimizer(optimizer, iter([net[0].bias])) == [net[0].bias]


@pytest.mark.parametrize(
    ("arguments", "lr"), [({}, 0.05), ({"initial_denom_lr": 2.0}, 0.25), ({"lr": 0.3}, 0.3), ({"lr": 0.0}, 0.0)]
)
def test_unfrozen_layers_are_a_group_with_a_rate_of_their_own(arguments: dict[str, float], lr: float) -> None:
    net = Scaled()
    freeze(net[0])
    optimizer = torch.optim.SGD([net.scale], lr=0.5)
    unfreeze_and_add_param_group(net[0], optimizer, **arguments)
    assert [len(group["params"]) for group in optimizer.param_groups] == [1, 2]
    assert optimizer.param_groups[1]["lr"] == pytest.approx(lr)
    assert {"0.weight", "0.bias"} <= set(trained(net))


def test_normalisation_that_was_trained_all_along_is_no_slip_and_not_added_twice() -> None:
    net = Scaled()
    freeze(net, train_bn=True)
    optimizer = torch.optim.SGD(filter_params(net), lr=0.5)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        unfreeze_and_add_param_group([net[0], net[1]], optimizer)
    assert [group["params"] for group in optimizer.param_groups] == [[*net[1][0].parameters()], [*net[0].parameters()]]


def test_without_batchnorm_its_layers_stay_out_of_the_group() -> None:
    net = Scaled()
    freeze(net, train_bn=False)
    optimizer = torch.optim.SGD([net.scale.requires_grad_()], lr=0.5)
    unfreeze_and_add_param_group([net[0], net[1]], optimizer, train_bn=False)
    assert optimizer.param_groups[1]["params"] == [*net[0].parameters()]


def test_nothing_to_unfreeze_adds_no_group() -> None:
    optimizer = torch.optim.SGD([nn.Parameter(torch.ones(1))], lr=0.5)
    unfreeze_and_add_param_group(nn.ReLU(), optimizer)
    assert len(optimizer.param_groups) == 1
