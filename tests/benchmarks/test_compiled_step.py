from __future__ import annotations

import pytest
import torch

from benchmarks import compiled_step
from trainkit.assembly.compilation import OLDEST_TORCH


@pytest.mark.skipif(torch.__version__ < OLDEST_TORCH, reason=f"needs torch {OLDEST_TORCH}")
@pytest.mark.parametrize("case", compiled_step.CASES)
def test_cases_run(case):
    import torch._inductor.config as config

    with config.patch(fallback_by_default=True):  # no C++ compiler is needed
        figures = compiled_step.measure(case, steps=2, turns=1)
    assert set(figures) == {"hand_us", "compiled_us", "speedup"}
    assert figures["speedup"] > 0
