"""trainkit's own precisions keep the contract, and precisions that break a promise do not."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch

from trainkit.precision.base import Precision
from trainkit.precision.dtypes import BFloat16, Float32, Float64, MixedBFloat16
from trainkit.precision.mixed_float16 import MixedFloat16
from trainkit.testing import check_precision


def _same(made: Any) -> Any:
    return made


@pytest.mark.parametrize("make", [Float32, Float64, BFloat16, MixedBFloat16, MixedFloat16])
def test_own_precisions_keep_the_contract(make: Callable[[], Precision]) -> None:
    check_precision(make)


class Scales(Precision):
    """Scales the loss, and never back."""

    name = "scales"

    def backward(self, loss: torch.Tensor, *args: Any, **kwargs: Any) -> None:
        (1.5 * loss).backward()


class Climbs(Precision):
    name = "climbs"

    def backward(self, loss: torch.Tensor, *args: Any, **kwargs: Any) -> None:
        (-loss).backward()


class Counts(Precision):
    """Counts, and forgets that when it goes on."""

    name = "counts"

    def __init__(self) -> None:
        self.count = 0

    def backward(self, loss: torch.Tensor, *args: Any, **kwargs: Any) -> None:
        self.count += 1
        loss.backward()

    def state_dict(self) -> dict[str, Any]:
        return {"count": self.count}


@pytest.mark.parametrize(
    ("make", "told"),
    [
        (Scales, "true size"),
        (Climbs, "have not lowered the loss"),
        (Counts, "count"),
        (lambda: "16-mixed", "is no Precision"),
        (partial(_same, Float32()), "a new precision at each call"),
    ],
)
def test_a_precision_that_breaks_a_promise_is_told(make: Callable[[], Any], told: str) -> None:
    with pytest.raises(AssertionError, match=told):
        check_precision(make)
