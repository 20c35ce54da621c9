"""What is a unit."""

from __future__ import annotations

from torch import nn

from trainkit.strategies.fsdp.units import units


def test_units_are_by_default_the_outermost_repeated_blocks():
    module = nn.ModuleDict(
        {
            "blocks": nn.ModuleList([nn.Sequential(nn.Linear(2, 2), nn.ReLU(), nn.Linear(2, 2)) for _ in range(2)]),
            "head": nn.Sequential(nn.Linear(2, 3), nn.ReLU()),
        }
    )
    assert units(module, None) == [module["blocks"][1], module["blocks"][0]]


def test_a_unit_shares_no_parameter_with_what_is_outside_of_it():
    module = nn.Module()
    module.layers = nn.ModuleList([nn.Linear(2, 2) for _ in range(3)])
    module.last = nn.Linear(2, 2)
    module.last.weight = module.layers[0].weight
    assert units(module, None) == [module.layers[2], module.layers[1]]
    assert units(module, (nn.Linear,)) == [module.layers[2], module.layers[1]]
    assert units(module, lambda each: each is module.layers) == [], "a list is never called"


def test_from_a_size_on_counts_what_is_in_no_smaller_unit():
    module = nn.Module()
    module.small = nn.Linear(2, 2)
    module.pair = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3), nn.Linear(2, 2))
    assert units(module, 12) == [module.pair[1], module.pair[0]]
    assert units(module, 13) == [module.pair]
