"""What cannot be sharded."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import tests.strategies.fsdp_fit as script
from trainkit.errors import ModuleError
from trainkit.strategies import FSDP


class Sparse(script.Net):
    def build(self) -> None:
        super().build()
        self.table = nn.Embedding(4, 4, sparse=True)


class Lazy(script.Net):
    def build(self) -> None:
        super().build()
        self.late = nn.LazyLinear(4)


class Scalar(script.Net):
    def build(self) -> None:
        super().build()
        self.temperature = nn.Parameter(torch.tensor(1.0))


class WithoutValues(script.Net):
    def build(self) -> None:
        super().build()
        with torch.device("meta"):
            self.values = nn.ParameterList([torch.empty(3)])


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        (Sparse, "table has sparse gradients"),
        (Scalar, "temperature is one number"),
        (Lazy, "late.weight has no shape yet"),
        (WithoutValues, "ParameterList has 0 on the meta device, and no reset_parameters"),
    ],
)
def test_what_cannot_be_sharded_is_refused(kind: type[script.Net], said: str):
    with pytest.raises(ModuleError, match=said):
        script.fit(kind(), FSDP())
