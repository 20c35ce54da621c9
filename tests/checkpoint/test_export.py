from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file

from trainkit.checkpoint.diff import differences
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


ODD: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "meta": lambda values: values.to("meta"),
    "sparse": lambda values: values.to_sparse(),
    "csr": lambda values: values.to_sparse_csr(),
    "quantized": lambda values: torch.quantize_per_tensor(values, 0.1, 0, torch.qint8),
    "complex32": lambda values: values.to(torch.complex32),
}


@pytest.mark.filterwarnings("ignore::UserWarning")  # torch's own, of such tensors
@pytest.mark.parametrize("name", ODD)
def test_what_safetensors_has_no_form_for_is_named(tmp_path: Path, name: str) -> None:
    torch.save({"state_dict": {"a": WEIGHT, name: ODD[name](torch.rand(2, 2))}}, tmp_path / "a.ckpt")
    with pytest.raises(CheckpointError, match=rf"safetensors has no form for\n    {name}: \w+\[2, 2\]"):
        export_weights(tmp_path / "a.ckpt", tmp_path / "a.safetensors")
    assert os.listdir(tmp_path) == ["a.ckpt"]


@pytest.mark.parametrize("name", ["__metadata__", "half \ud800"])
def test_so_is_a_name_that_it_cannot_hold(tmp_path: Path, name: str) -> None:
    write_checkpoint({"state_dict": {name: WEIGHT}}, tmp_path / "a.ckpt")
    with pytest.raises(CheckpointError, match="safetensors has no form for"):
        export_weights(tmp_path / "a.ckpt", tmp_path / "a.safetensors")


def test_views_of_any_kind_are_exported_exactly(tmp_path: Path) -> None:
    weights = {
        "expanded": WEIGHT[:1].expand(4, 3),
        "conjugated": torch.randn(3, dtype=torch.complex64).conj(),
        "negated": torch.randn(3, dtype=torch.complex64).conj().imag,
        "overlapping": torch.arange(5.0).as_strided((3, 3), (1, 1)),
        "scalar": torch.tensor(2.0),
        "float8": WEIGHT.to(torch.float8_e4m3fn),
    }
    write_checkpoint({"state_dict": weights}, tmp_path / "a.ckpt")
    export_weights(tmp_path / "a.ckpt", tmp_path / "a.safetensors")
    assert list(differences(weights, load_file(tmp_path / "a.safetensors"))) == []


def test_a_checkpoint_is_not_replaced_by_its_own_export(checkpoint: Path, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(checkpoint)
    before = checkpoint.read_bytes()
    for path in (checkpoint, tmp_path / "link"):
        with pytest.raises(CheckpointError, match="is the checkpoint itself"):
            export_weights(checkpoint, path)
    assert checkpoint.read_bytes() == before
