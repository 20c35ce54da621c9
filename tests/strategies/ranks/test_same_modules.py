"""Modules that differ between ranks."""

from __future__ import annotations

from typing import Any

import pytest
from torch import nn

from trainkit.errors import ModuleError
from trainkit.strategies import SingleDevice
from trainkit.strategies.ranks.same_modules import refuse_different_modules


class Other(SingleDevice):
    """Beside a rank that has built a wider layer."""

    def all_gather_object(self, value: Any) -> list[Any]:
        return [value, value | {"weight": ((5, 2), "torch.float32")}]


def test_a_shape_that_differs_is_named():
    with pytest.raises(ModuleError, match=r"'weight' is \(\(5, 2\), 'torch.float32'\) on rank 1"):
        refuse_different_modules(Other("cpu"), nn.Linear(2, 3))
