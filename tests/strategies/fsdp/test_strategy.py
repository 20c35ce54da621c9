"""The arguments of `FSDP`, what it refuses, and a fit of one process."""

from __future__ import annotations

from typing import Any

import pytest
import torch

import tests.strategies.fsdp_fit as script
from trainkit import Trainer
from trainkit.callbacks.model_summary import summarize
from trainkit.errors import ConfigError, DeviceError
from trainkit.module.shards import class_of, is_sharded
from trainkit.strategies import FSDP

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
