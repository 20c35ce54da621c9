from __future__ import annotations

import torch

from trainkit.precision import Float16


def test_buffers_are_converted_and_counters_are_not():
    norm = torch.nn.BatchNorm1d(2)
    Float16().convert(norm)
    assert norm.weight.dtype is norm.running_mean.dtype is torch.float16
    assert norm.num_batches_tracked.dtype is torch.int64
