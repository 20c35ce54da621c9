"""Drawn tensors, split in drawn ways, saved on some ranks and loaded on others."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.storage.sharded.conftest import SCRIPT
from tests.strategies.started import Ranks

pytestmark = pytest.mark.slow

SAVED_ON = (1, 2, 4)
LOADED_ON = (1, 2, 3, 4)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("drawn")
    for number in SAVED_ON:
        assert [each.code for each in Ranks(SCRIPT, made, "save", world_size=number).ended()] == [0] * number
    return made


@pytest.mark.parametrize("number", LOADED_ON)
def test_each_tensor_is_equal_however_it_was_split_and_is_split_now(folder: Path, number: int) -> None:
    for ended in Ranks(SCRIPT, folder, "load", *SAVED_ON, world_size=number).ended():
        assert ended.code == 0, ended.text
        assert ended.text.count("compared 40") == len(SAVED_ON)


def test_torch_reads_the_folder_as_its_own(folder: Path, tmp_path: Path) -> None:
    import torch
    from torch.distributed.checkpoint.format_utils import dcp_to_torch_save

    dcp_to_torch_save(folder / "2.ckpt", tmp_path / "one.pt")
    found = torch.load(tmp_path / "one.pt", weights_only=True)
    expected = torch.load(folder / "2.pt", weights_only=True)
    assert torch.equal(found["list[0]"], expected["list"][0])
    # Two places that read alike; and tied weights are there once.
    assert torch.equal(found["state_dict.a.b"], expected["state_dict"]["a.b"])
    assert torch.equal(found["state_dict.a.b (2)"], expected["state_dict"]["a"]["b"])
    assert "state_dict.tied" not in found
