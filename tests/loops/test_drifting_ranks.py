"""On two processes it is tried in tests/strategies/test_ddp_fit.py."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any
from zlib import crc32

import pytest
import torch

from trainkit.errors import ModuleError
from trainkit.loops.drifting_ranks import EVERY, compared_early, compared_now_and_then, digest, exchanges_at_steps
from trainkit.strategies.base import Strategy
from trainkit.strategies.ddp import DDP
from trainkit.strategies.single import SingleDevice
from trainkit.testing import TinyModule


class Several(DDP):
    """What the second of two ranks hears from the first, which has come here with all it has before."""

    is_distributed = True

    def __init__(self, first: dict[str, Any] | None = None):
        super().__init__()
        self.first, self.heard, self.noted = first, [], []

    @property
    def ranks(self) -> Any:
        return self

    def all_gather_object(self, value):
        self.heard.append(value)
        if isinstance(value, int):
            return [value if self.first is None else crc32(repr(self.first).encode()), value]
        return [self.first, value]

    def notes(self, note):
        self.noted.append(note)
        return None if len(self.noted) == 1 else [self.noted[-2], str(crc32(repr(self.first).encode()))]


def run_of(module, strategy, optimizer=None):
    optimizers = [optimizer] if optimizer else []
    return SimpleNamespace(
        strategy=strategy, module=module, optimizers=optimizers, progress=SimpleNamespace(total_batches=0)
    )


def batch_on_two_ranks(first, second, optimizers=(None, None)):
    own = digest(run_of(first, Several(), optimizers[0]))
    run = run_of(second, Several(own.parts), optimizers[1])
    compared_early(lambda *arguments: {"loss": 1})(run, None, None, 0, False)


def test_ranks_with_the_same_weights_go_on():
    batch_on_two_ranks(TinyModule(), TinyModule())


@pytest.mark.filterwarnings("ignore:Complex modules")
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64, torch.complex64])
def test_ranks_with_other_weights_are_told_where_and_what_to_do(dtype):
    other = TinyModule().to(dtype)
    with torch.no_grad():
        other.layer.bias[1] *= 1.01
    with pytest.raises(ModuleError, match=r"apart: after training batch 0 .*'layer\.bias' \(on rank 1 ") as raised:
        batch_on_two_ranks(TinyModule().to(dtype), other)
    assert "broadcast(...)" in str(raised.value)


def test_with_manual_optimization_what_to_do_is_another_thing():
    modules = TinyModule(), TinyModule()
    for each, value in zip(modules, (0.0, 1.0), strict=True):
        each.automatic_optimization = False
        torch.nn.init.constant_(each.layer.weight, value)
    with pytest.raises(ModuleError, match=r"(?s)manual_backward\(\).*with a closure.*sync_gradients\(self\)"):
        batch_on_two_ranks(*modules)


def test_a_rate_that_differs_is_told_with_its_values_ahead_of_any_difference_of_weights():
    modules = TinyModule(), TinyModule()
    optimizers = [torch.optim.SGD(each.parameters(), lr=lr) for each, lr in zip(modules, (0.1, 0.2), strict=True)]
    with pytest.raises(ModuleError, match=r"values of 'lr' of SGD, group 0 \(0\.1 on rank 0, 0\.2 on rank 1\)"):
        batch_on_two_ranks(*modules, optimizers)


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
    strategy = Several()
    step = compared_early(lambda *arguments: {})
    for batch_idx in range(100):
        step(run_of(TinyModule(), strategy), None, None, batch_idx, False)
    assert len(strategy.heard) == 7


def test_in_an_endless_epoch_ranks_are_compared_now_and_then_without_a_wait():
    strategy = Several(first={"weights layer.weight": 0})
    step, run = compared_now_and_then(lambda *arguments: {}), run_of(TinyModule(), strategy)
    for run.progress.total_batches in range(2 * EVERY - 1):
        step(run, None, None, 0, False)
    assert (len(strategy.noted), strategy.heard) == (1, [])
    run.progress.total_batches = 2 * EVERY - 1
    with pytest.raises(ModuleError, match=r"apart: 1000 batches before training batch 7 .*layer\.weight"):
        step(run, None, None, 7, False)


def test_outputs_are_those_of_the_step():
    for compared in (compared_early, compared_now_and_then):
        assert compared(lambda *given: given[3])(run_of(TinyModule(), Several()), None, None, 5, True) == 5


class Sharded(SingleDevice):
    """Has another part of the weights on each rank."""

    is_distributed = True


@pytest.mark.parametrize(("strategy", "expected"), [(DDP(), False), (Several(), True), (Sharded(), False)])
def test_only_copies_whose_gradients_are_averaged_are_compared(strategy: Strategy, expected: bool):
    assert exchanges_at_steps(strategy) is expected
