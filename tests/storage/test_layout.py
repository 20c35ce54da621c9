from __future__ import annotations

from typing import Any

import pytest
import torch

from trainkit.errors import CheckpointError
from trainkit.storage.files import read_checkpoint, write_checkpoint
from trainkit.storage.layout import misfit
from trainkit.testing import TinyData, TinyModule, quiet_trainer


@pytest.fixture(params=[True, False], ids=["weights", "whole"])
def checkpoint(request: pytest.FixtureRequest) -> dict[str, Any]:
    trainer = quiet_trainer(max_epochs=1)
    trainer.fit(TinyModule(), TinyData(2))
    return trainer.dump_checkpoint(weights_only=request.param)


def test_what_a_run_saves_is_as_the_layout_has_it(checkpoint: dict[str, Any]) -> None:
    assert misfit(checkpoint) == ""


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"state_dict": "x"}, "state_dict is 'x', and a dict was expected"),
        ({"epoch": None}, "epoch is None, and a count was expected"),
        ({"global_step": 10**18}, "global_step is 1000000000000000000, and a count was expected"),
        ({"hyper_parameters": [1]}, "hyper_parameters is a list, and a dict was expected"),
        ({"trainkit": {"format": 2, "version": 1}}, "trainkit.version is 1, and a str was expected"),
    ],
)
def test_a_wrong_value_is_named_when_it_is_read(tmp_path: Any, checkpoint: Any, change: Any, told: str) -> None:
    write_checkpoint(checkpoint | change, tmp_path / "a.ckpt")
    with pytest.raises(CheckpointError, match=f"a.ckpt is whole, and yet no checkpoint.*: {told}"):
        read_checkpoint(tmp_path / "a.ckpt")


def test_a_file_of_another_program_needs_no_more_than_weights() -> None:
    assert misfit({"state_dict": {"a": torch.zeros(1)}, "loops": 3, "epoch": "x"}) == ""
    assert misfit({"anything": 1}) == ""
