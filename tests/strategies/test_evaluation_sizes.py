"""Each sample is counted once, whatever the number of samples and ranks, also where ranks have none."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch.testing import assert_close

from .evaluating_ranks import BATCH, evaluated
from .started import Ranks

pytestmark = [
    pytest.mark.distributed,
    pytest.mark.slow,
    # Of one sample, or of one class, some values mean nothing.
    pytest.mark.filterwarnings("ignore:No (positive|negative) samples", "ignore:The variance of predictions"),
]


@pytest.mark.parametrize("world_size", [2, 3])
def test_metrics_and_predictions_are_those_of_one_process(tmp_path: Path, world_size: int):
    script = str(Path(__file__).with_name("evaluating_ranks.py"))
    ended = Ranks(script, tmp_path, world_size=world_size).ended()
    assert [each.code for each in ended] == [0] * world_size, "\n".join(each.text for each in ended)
    expected = evaluated(range(1, 4 * world_size * BATCH + 1))
    for rank in range(world_size):
        found = torch.load(tmp_path / f"rank_{rank}.pt")
        for size, result in expected.items():
            message = f"{size} samples on {world_size} ranks, rank {rank}"
            assert_close(
                found[size], result, rtol=1e-6, atol=1e-6, equal_nan=True, msg=lambda text, at=message: f"{at}: {text}"
            )
