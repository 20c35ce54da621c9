from __future__ import annotations

import torch

from trainkit.storage.sharded.dtensors import dtensors_in, is_dtensor, without_shards


def test_ordinary_tensors_are_not_split_over_ranks() -> None:
    value = {"a": torch.zeros(2), "b": [torch.zeros(1, device="meta"), 3]}
    assert not is_dtensor(value["a"])
    assert dtensors_in(value) == []
    assert without_shards(value) is value
