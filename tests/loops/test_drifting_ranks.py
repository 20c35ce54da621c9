"""On two processes it is tried in tests/strategies/test_ddp_fit.py."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch

from trainkit.errors import ModuleError
from trainkit.loops.drifting_ranks import compared, exchanges_at_steps
from trainkit.strategies.base import Strategy
from trainkit.strategies.ddp import DDP
from trainkit.strategies.single import SingleDevice
from trainkit.testing import TinyModule


class Gathering:
    """What the first of two ranks hears from the second, whose module is ``other``."""

    def __init__(self):
        self.of_other, self.heard = None, 0

    def all_gather_object(self, value):
        self.heard += 1
        self.of_other, of_other = value, self.of_other or value
        return [value, of_other]


def run_of(module, strategy):
    return SimpleNamespace(strategy=strategy, module=module)


def batch_on_two_ranks(first, second):
    strategy = Gathering()
    for module in (first, second):
        compared(lambda *arguments: {"loss": 1})(run_of(module, strategy), None, None, 0, False)


def test_ranks_with_the_same_weights_go_on():
    batch_on_two_ranks(TinyModule(), TinyModule())


@pytest.mark.filterwarnings("ignore:Complex modules")
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64, torch.complex64])
def test_ranks_with_other_weights_are_told_where_and_what_to_do(dtype):
    other = TinyModule().to(dtype)
    with torch.no_grad():
        other.layer.bias[1] *= 1.01
    with pytest.raises(ModuleError, match=r"drifted apart: after training batch 0 .*'layer\.bias'") as raised:
        batch_on_two_ranks(TinyModule().to(dtype), other)
    assert "sync_gradients(self)" in str(raised.value)
    assert "with a closure" in str(raised.value)


def test_weights_that_are_not_numbers_alike_on_all_ranks_are_the_same():
    modules = TinyModule(), TinyModule()
    for module in modules:
        torch.nn.init.constant_(module.layer.weight, float("nan"))
    batch_on_two_ranks(*modules)


def test_a_layer_without_a_shape_yet_is_left_alone():
    modules = TinyModule(), TinyModule()
    for module in modules:
        module.late = torch.nn.LazyLinear(2)
    batch_on_two_ranks(*modules)


def test_ranks_are_compared_ever_more_rarely():
    strategy = Gathering()
    step = compared(lambda *arguments: {})
    for batch_idx in range(100):
        step(run_of(TinyModule(), strategy), None, None, batch_idx, False)
    assert strategy.heard == 7


def test_outputs_are_those_of_the_step():
    assert compared(lambda *given: given[3])(run_of(TinyModule(), Gathering()), None, None, 5, True) == 5


class Sharded(SingleDevice):
    """Has another part of the weights on each rank."""

    is_distributed = True


class Several(DDP):
    is_distributed = True


@pytest.mark.parametrize(("strategy", "expected"), [(DDP(), False), (Several(), True), (Sharded(), False)])
def test_only_copies_whose_gradients_are_averaged_are_compared(strategy: Strategy, expected: bool):
    assert exchanges_at_steps(strategy) is expected
