"""Drawn programs that log: every row, result and metric is what numpy makes of the logged values, also after a stop."""

from __future__ import annotations

import pytest

from tests.metrics.drawn_logging import differences

# Of what failed once: two loaders and training with one object, values of transfer hooks, batches of an evaluation.
FAILED = (54, 55, 65, 74, 80, 98, 99)


@pytest.mark.filterwarnings("ignore:check_val_every_n_epoch=2 is never reached")
@pytest.mark.filterwarnings("ignore:accumulate_grad_batches")
@pytest.mark.filterwarnings("ignore:self.log.*update.. computes no value")
@pytest.mark.parametrize("seed", [*range(50), *FAILED])
def test_everything_is_as_by_hand(seed, tmp_path):
    assert differences(seed, tmp_path) == []
