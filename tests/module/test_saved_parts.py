from __future__ import annotations

import torch
from torch import nn

from tests.storage.sharded.test_place_holder import Files
from trainkit.module.saved_parts import read_parts
from trainkit.storage.sharded.place_holder import SavedTensor


def test_beside_a_module_that_is_whole_all_is_read_as_a_whole() -> None:
    saved = SavedTensor.of(torch.empty(2, device="meta"), "x", [], Files())
    state = {"a": [saved], "b": {"c": torch.ones(1)}}
    read = read_parts(state, nn.Linear(1, 1))
    assert read["a"][0].tolist() == [0, 1]
    assert read["b"] is state["b"]
