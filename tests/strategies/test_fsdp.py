"""The arguments of `FSDP`, what it refuses, and a fit of one process."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

import tests.strategies.fsdp_fit as script
from trainkit import Trainer
from trainkit.callbacks.model_summary import summarize
from trainkit.errors import ConfigError, DeviceError, ModuleError
from trainkit.module.shards import class_of, is_sharded
from trainkit.strategies import FSDP
from trainkit.strategies.fsdp_mesh import place_in
from trainkit.strategies.fsdp_units import units

QUIET: dict[str, Any] = {
    "accelerator": "cpu",
    "logger": False,
    "enable_checkpointing": False,
    "enable_progress_bar": False,
    "enable_model_summary": False,
}


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"mesh": 2}, r"FSDP\(mesh=2\) is not usable"),
        ({"mesh": (1, 2, 3)}, "is not usable"),
        ({"mesh": {"tp": 2}}, "has 0 data-parallel dimensions"),
        ({"mesh": {"dp": 0, "tp": 2}}, "is not usable"),
        ({"mesh": {"a": 1, "b": 1, "c": 1}}, "has 3 data-parallel dimensions"),
        ({"wrap_policy": "Block"}, "wrap_policy='Block'"),
        ({"wrap_policy": []}, "wrap_policy"),
        ({"wrap_policy": 0}, "wrap_policy=0"),
        ({"activation_checkpointing": [int]}, "activation_checkpointing"),
        ({"checkpoint": "whole"}, "'whole'"),
        ({"cpu_offload": "yes"}, "cpu_offload"),
        ({"timeout_s": 0}, "timeout_s"),
    ],
)
def test_a_wrong_argument_is_refused(arguments: dict[str, Any], said: str):
    with pytest.raises(ConfigError, match=said):
        FSDP(**arguments)


def test_a_mesh_of_more_ranks_than_there_are_says_how_to_start():
    strategy = FSDP(mesh=(2, 2))
    strategy.assign([torch.device("cpu")])
    with pytest.raises(DeviceError, match="--nproc-per-node=4"):
        strategy.setup()


@pytest.mark.parametrize(
    ("sizes", "data_ranks", "first_ranks"),
    [
        (None, [0, 1, 2, 3], (0, 1, 2, 3)),
        ({"replicate": 2, "shard": 2}, [0, 1, 2, 3], (0, 1, 2, 3)),
        ({"dp": 2, "tp": 2}, [0, 0, 1, 1], (0, 2)),
        ({"tp": 2, "dp": 2}, [0, 1, 0, 1], (0, 1)),
        ({"dp": 1, "tp": 4}, [0, 0, 0, 0], (0,)),
    ],
)
def test_ranks_that_compute_together_have_the_same_data(
    sizes: dict[str, int] | None, data_ranks: list[int], first_ranks: tuple[int, ...]
):
    places = [place_in(sizes, rank, 4) for rank in range(4)]
    assert [place.data_rank for place in places] == data_ranks
    assert {place.first_ranks for place in places} == {first_ranks}
    assert {place.data_world_size for place in places} == {len(first_ranks)}


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


class Sparse(script.Net):
    def build(self) -> None:
        super().build()
        self.table = nn.Embedding(4, 4, sparse=True)


class Lazy(script.Net):
    def build(self) -> None:
        super().build()
        self.late = nn.LazyLinear(4)


class Scalar(script.Net):
    def build(self) -> None:
        super().build()
        self.temperature = nn.Parameter(torch.tensor(1.0))


class WithoutValues(script.Net):
    def build(self) -> None:
        super().build()
        with torch.device("meta"):
            self.values = nn.ParameterList([torch.empty(3)])


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        (Sparse, "table has sparse gradients"),
        (Scalar, "temperature is one number"),
        (Lazy, "late.weight has no shape yet"),
        (WithoutValues, "ParameterList has 0 on the meta device, and no reset_parameters"),
    ],
)
def test_what_cannot_be_sharded_is_refused(kind: type[script.Net], said: str):
    with pytest.raises(ModuleError, match=said):
        script.fit(kind(), FSDP())


def test_one_process_comes_to_what_it_comes_to_without():
    sharded, alone = script.fit(script.Net(), "fsdp"), script.fit(script.Net(), "auto")
    for part in ("weights", "logged", "predicted", "outside"):
        torch.testing.assert_close(sharded[part], alone[part], rtol=0, atol=1e-12)
    assert sharded["are_sharded"]


def test_the_module_stays_sharded_and_goes_on():
    module = script.Net()
    trainer = Trainer(**QUIET, strategy="fsdp", max_epochs=1)
    loader = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(*script.make_data(8, seed=1)), batch_size=4)
    trainer.fit(module, loader)
    assert all(map(is_sharded, module.parameters()))
    assert type(module) is script.Net
    assert class_of(module.blocks[0]) is script.Block
    trainer.fit_again = Trainer(**QUIET, strategy="fsdp", max_epochs=1)
    trainer.fit_again.fit(module, loader)
    with pytest.raises(ConfigError, match="cannot be converted to torch.float64"):
        Trainer(**QUIET, strategy="fsdp", max_epochs=1, precision="64-true").fit(module, loader)


def test_a_summary_tells_of_the_whole_module():
    module = script.Net()
    expected = summarize(module)
    Trainer(**QUIET, strategy="fsdp", max_epochs=0).fit(module, [(torch.ones(2, 5), torch.ones(2, 3))])
    module.example_input_array = torch.ones(2, 5)
    found = summarize(module, max_depth=2)
    assert (found.num_params, found.size_bytes) == (expected.num_params, expected.size_bytes)
    assert [layer.kind for layer in found.layers if layer.name.startswith("blocks.")] == ["Block"] * 3
