"""The step as one function, called by itself: what it computes for each place in a group, and what it leaves behind."""

from __future__ import annotations

from contextlib import nullcontext

import pytest
import torch
import torch._dynamo

from trainkit.errors import CompileError
from trainkit.loops.accumulation import Place
from trainkit.loops.compiled.graph import compile_graph, options
from trainkit.loops.compiled.optimizer import TracedOptimizer
from trainkit.loops.compiled.trace_guard import TraceGuard, TracingRefusedError
from trainkit.testing import TinyData, TinyModule, quiet_trainer

BATCH, OTHER = TinyData(2)
WHOLE = Place(opens=True, closes=True, divisor=1, rescale=None)


class Module(TinyModule):
    """Has a parameter besides that no step needs."""

    def __init__(self):
        super().__init__()
        self.unused = torch.nn.Parameter(torch.ones(2))

    def training_step(self, batch, batch_idx):
        return self.loss(batch)


def no_clipping(module, optimizer):
    pass


def step_of(module, clip=no_clipping):
    """Return a step that may be called like a function, eager kernels being its backend."""
    trainer = quiet_trainer(max_epochs=0)
    trainer.fit(module, TinyData(1))
    run, guard = trainer.fit_run, TraceGuard()
    optimizer = TracedOptimizer(run.optimizer, run.schedulers, run.strategy.device)
    graph = compile_graph(run, optimizer, clip, guard, backend="eager")
    for parameter in module.layer.parameters():
        parameter.grad = torch.zeros_like(parameter)

    def step(batch=BATCH, place=WHOLE, weight=None, allowed=True):
        with guard.tracing_allowed() if allowed else nullcontext():
            return graph(batch, 0, place, weight, optimizer.momenta())

    step.guard = guard
    return step


def gradients_by_hand(*batches, factors=(1.0, 1.0)):
    module = Module()
    for batch, factor in zip(batches, factors, strict=False):
        (module.loss(batch) * factor).backward()
    return module.layer.weight.grad


def test_a_step_is_backward_and_an_update():
    module = Module()
    before = module.layer.weight.clone()
    result = step_of(module)()
    expected = gradients_by_hand(BATCH)
    torch.testing.assert_close(module.layer.weight.grad, expected)
    torch.testing.assert_close(module.layer.weight, before - 0.1 * expected)
    assert result.outputs == {"loss": Module().loss(BATCH).detach()}
    assert not result.outputs["loss"].requires_grad
    assert result.weight is None


def test_only_parameters_with_a_gradient_get_one():
    module = Module()
    step = step_of(module)
    module.layer.bias.grad = None
    step()
    assert module.unused.grad is None
    assert module.layer.bias.grad is None
    assert torch.equal(module.layer.bias, TinyModule().layer.bias)


def test_the_batches_of_a_group_are_added_up_and_updated_once():
    module = Module()
    before = module.layer.weight.clone()
    step = step_of(module)
    step(BATCH, Place(True, False, 2, None))
    assert torch.equal(module.layer.weight, before)
    torch.testing.assert_close(module.layer.weight.grad, gradients_by_hand(BATCH, factors=[0.5]))
    step(OTHER, Place(False, True, 2, None))
    expected = gradients_by_hand(BATCH, OTHER, factors=[0.5, 0.5])
    torch.testing.assert_close(module.layer.weight.grad, expected)
    torch.testing.assert_close(module.layer.weight, before - 0.1 * expected)


def test_what_lay_in_the_gradients_before_a_group_is_dropped():
    module = Module()
    step = step_of(module)
    module.layer.weight.grad.fill_(100.0)
    step()
    torch.testing.assert_close(module.layer.weight.grad, gradients_by_hand(BATCH))


def test_a_group_that_closes_early_is_rescaled_before_it_is_clipped():
    seen = []
    module = Module()
    before = module.layer.weight.clone()

    def clip(module, optimizer):
        seen.append("clipped")
        for parameter in optimizer.param_groups[0]["params"]:
            if parameter.grad is not None:
                parameter.grad.clamp_(max=0.0)

    step_of(module, clip)(place=Place(True, True, 4, 4.0))
    clipped = gradients_by_hand(BATCH).clamp(max=0.0)
    torch.testing.assert_close(module.layer.weight.grad, clipped)
    torch.testing.assert_close(module.layer.weight, before - 0.1 * clipped)
    assert seen == ["clipped"]


def test_nothing_is_clipped_before_the_group_closes():
    def clip(module, optimizer):
        raise AssertionError("clipped too early")

    step_of(Module(), clip)(place=Place(True, False, 2, None))


def test_sums_are_divided_by_the_weight_of_the_whole_group():
    class Weighted(Module):
        def training_step(self, batch, batch_idx):
            return {"loss": self.loss(batch), "weight": 3}

    module = Weighted()
    step = step_of(module)
    result = step(BATCH, Place(True, False, 2, None))
    assert result.weight == 3
    torch.testing.assert_close(module.layer.weight.grad, gradients_by_hand(BATCH))
    result = step(OTHER, Place(False, True, 0, None), result.weight)
    assert result.weight == 6
    torch.testing.assert_close(module.layer.weight.grad, gradients_by_hand(BATCH, OTHER) / 6)


def test_a_skipped_batch_changes_nothing():
    class Skips(Module):
        def training_step(self, batch, batch_idx):
            return None

    module = Skips()
    before = module.layer.weight.clone()
    assert step_of(module)() == (None, None)
    assert torch.equal(module.layer.weight, before)
    assert module.layer.weight.grad.eq(0).all()


def test_a_step_that_is_not_compiled_is_an_error():
    step = step_of(Module())
    match = "without compiling it[\\s\\S]*unset"
    with torch.compiler.set_stance("force_eager"), pytest.raises(CompileError, match=match):
        step()


def test_it_is_compiled_only_when_that_is_allowed_and_changes_nothing_otherwise():
    module = Module()
    before = module.layer.weight.clone()
    step = step_of(module)
    with pytest.raises((torch._dynamo.exc.TorchDynamoException, TracingRefusedError)):
        step(allowed=False)
    assert torch.equal(module.layer.weight, before)
    step()
    assert step.guard.has_traced
    step(allowed=False)


def test_graphs_of_two_runs_are_apart():
    first, second = Module(), Module()
    one, other = step_of(first), step_of(second)
    one()
    other()
    assert torch.equal(first.layer.weight, second.layer.weight)
    one()
    assert not torch.equal(first.layer.weight, second.layer.weight)


def test_random_numbers_are_those_of_eager_code_and_cuda_graphs_are_for_cuda():
    assert options("cpu") == {"fallback_random": True}
    assert options("cuda") == {"fallback_random": True, "triton.cudagraphs": True}
