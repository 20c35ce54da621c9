from __future__ import annotations

import re
from typing import Any, get_args, get_type_hints

import pytest
import torch

from trainkit.errors import CheckpointError
from trainkit.hooks.due import FINISHED_HOOKS
from trainkit.storage.files import read_checkpoint, write_checkpoint
from trainkit.storage.layout import Due, Metrics, misfit
from trainkit.testing import TinyData, TinyModule, quiet_trainer
from trainkit.types import Phase


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


@pytest.mark.parametrize(
    ("place", "value", "told"),
    [
        (("epoch",), 7, "epoch is 7, and loops.fit.epoch is 1"),
        (("trainkit", "ranks"), [], "trainkit.ranks is empty"),
        (("loops", "fit", "group_batches"), 1, r"ranks\[0\].group is None, and loops.fit.group_batches is 1"),
        (
            ("trainkit", "ranks", 0, "rng", "torch"),
            torch.zeros(3),
            "rng.torch is a Tensor, and a tensor of torch.uint8",
        ),
        (("trainkit",), {}, ""),
        (("trainkit",), 1, "trainkit is 1, and a dict was expected"),
        (("trainkit", "format"), "x", "trainkit.format is 'x', and a count was expected"),
    ],
)
def test_places_that_contradict_each_other_are_told(place: Any, value: Any, told: str) -> None:
    trainer = quiet_trainer(max_epochs=1)
    trainer.fit(TinyModule(), TinyData(2))
    checkpoint: Any = trainer.dump_checkpoint()
    inner = checkpoint
    for key in place[:-1]:
        inner = inner[key]
    inner[place[-1]] = value
    assert re.search(told, misfit(checkpoint)) and bool(told) == bool(misfit(checkpoint))


def test_the_hooks_and_phases_are_those_that_there_are() -> None:
    hooks, phases = get_type_hints(Due)["name"], get_type_hints(Metrics)["phases"]
    assert get_args(hooks) == FINISHED_HOOKS
    assert get_args(get_args(phases)[0]) == tuple(phase.value for phase in Phase)
