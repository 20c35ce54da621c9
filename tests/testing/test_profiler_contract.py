"""trainkit's own profilers keep the contract, and profilers that break a promise do not."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
import torch

from trainkit.profilers import Profiler, SimpleProfiler, TorchProfiler
from trainkit.testing import check_profiler


@pytest.mark.parametrize("make", [Profiler, SimpleProfiler, lambda: TorchProfiler(skip=1, warm_up=1, active=1)])
@pytest.mark.filterwarnings("ignore:profiler='torch' has recorded nothing")
def test_own_profilers_keep_the_contract(make: Any, tmp_path: Path) -> None:
    check_profiler(make, tmp_path)


class Swallows(Profiler):
    @contextmanager
    def _block(self) -> Iterator[None]:
        with suppress(LookupError):
            yield

    def profile(self, name: str) -> Any:
        return self._block()


class Wide(Profiler):
    def summary(self) -> str:
        return "too wide " * 10


class Disturbs(Profiler):
    def on_train_batch_end(self, module: Any) -> None:
        with torch.no_grad():
            module.layer.weight.mul_(0.5)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (object, "which is no Profiler"),
        (Swallows, "swallows what it raises"),
        (Wide, "wider than 80 columns"),
        (Disturbs, "weight"),
    ],
)
def test_a_broken_promise_is_named(make: Any, message: str, tmp_path: Path) -> None:
    with pytest.raises(AssertionError, match=message):
        check_profiler(make, tmp_path)
