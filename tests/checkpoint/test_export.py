from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file

from trainkit.checkpoint.export import export_weights
from trainkit.errors import CheckpointError, PluginError
from trainkit.storage.files import write_checkpoint

WEIGHT = torch.arange(6.0).reshape(2, 3)
CHECKPOINT = {
    "state_dict": {
        "net.embedding": WEIGHT,
        "net.head": WEIGHT,
        "net.turned": WEIGHT.T,
        "net._extra_state": {"seen": 3},
        "other.bias": torch.zeros(2, dtype=torch.bfloat16),
    }
}


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    write_checkpoint(CHECKPOINT, tmp_path / "a.ckpt")
    return tmp_path / "a.ckpt"


def test_weights_are_those_of_the_checkpoint(checkpoint: Path, tmp_path: Path) -> None:
    left_out = export_weights(checkpoint, tmp_path / "a.safetensors")
    weights = load_file(tmp_path / "a.safetensors")
    assert left_out == ["net._extra_state"]
    assert weights.keys() == CHECKPOINT["state_dict"].keys() - {"net._extra_state"}
    assert all(torch.equal(weights[name], CHECKPOINT["state_dict"][name]) for name in weights)
    with safe_open(tmp_path / "a.safetensors", "pt") as file:
        assert file.metadata() == {"format": "pt"}


def test_a_part_is_exported_under_its_own_names(checkpoint: Path, tmp_path: Path) -> None:
    export_weights(checkpoint, tmp_path / "a.safetensors", prefix="other.")
    assert list(load_file(tmp_path / "a.safetensors")) == ["bias"]


def test_a_part_that_is_not_there_is_an_error_that_names_those_that_are(checkpoint: Path, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"begin with 'model\.'(.|\n)*there are    net, other"):
        export_weights(checkpoint, tmp_path / "a.safetensors", prefix="model.")
    assert os.listdir(tmp_path) == ["a.ckpt"]


def test_without_the_package_the_error_names_the_extra(
    checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "safetensors.torch", None)
    with pytest.raises(PluginError, match=r"pip install 'trainkit\[export\]'"):
        export_weights(checkpoint, tmp_path / "a.safetensors")
