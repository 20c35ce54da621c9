from __future__ import annotations

import warnings

import pytest
from torch import nn
from torch.optim import SGD

from trainkit.testing import TinyModule
from trainkit.trainer.hidden_layers import warn_of_hidden_layers

HIDING = {
    "list": lambda layer: [layer],
    "tuple": lambda layer: (layer,),
    "dict": lambda layer: {"first": layer},
    "lists in a dict": lambda layer: {"first.part": [layer, layer], 2: []},
    "parameter": lambda layer: [layer.weight],
}


def told(module, **attributes):
    """Return what is warned of a module with these attributes."""
    for name, value in attributes.items():
        setattr(module, name, value)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        warn_of_hidden_layers(module, [SGD(module.parameters(), lr=0.1)])
    return [str(each.message) for each in caught]


@pytest.mark.parametrize("hide", HIDING.values(), ids=HIDING)
def test_layers_in_plain_containers_are_named(hide):
    (message,) = told(TinyModule(), blocks=hide(nn.Linear(2, 2)))
    assert "TinyModule.blocks" in message and "torch.nn.ModuleList or ModuleDict" in message


def test_layers_in_a_part_are_named_with_it():
    part = nn.Module()
    part.blocks = [nn.Linear(2, 2)]
    (message,) = told(TinyModule(), part=part)
    assert "TinyModule.part.blocks" in message


def test_what_is_frozen_known_or_no_layer_is_left_alone():
    module = TinyModule()
    teacher = nn.Linear(2, 2).requires_grad_(False)
    assert told(module, teacher=[teacher], again=[module.layer], names=["a"], sizes={"a": 1}) == []
    assert told(TinyModule(), blocks=nn.ModuleList([nn.Linear(2, 2)])) == []


def test_layers_that_an_optimizer_was_given_are_trained():
    module, hidden = TinyModule(), nn.Linear(2, 2)
    module.blocks = [hidden]
    warn_of_hidden_layers(module, [SGD([*module.parameters(), *hidden.parameters()], lr=0.1)])  # warnings are errors


def test_long_containers_are_data_and_not_looked_through():
    class Data(list):
        def __iter__(self):
            raise AssertionError("was looked through")

    assert told(TinyModule(), samples=Data([0] * 1001), again=[Data([0] * 1001)]) == []
