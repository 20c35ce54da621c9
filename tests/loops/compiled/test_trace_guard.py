from __future__ import annotations

import re
import warnings

import pytest
import torch
import torch._dynamo

from trainkit.loops.compiled.trace_guard import DYNAMIC, MAX_GRAPHS, TraceGuard, TracingRefusedError


def guarded(body):
    guard = TraceGuard()
    check = guard.check

    def function(*arguments):
        check()
        return body(*arguments)

    # A copy of the code has graphs of its own.
    function.__code__ = function.__code__.replace()
    return guard, torch.compile(function, backend="eager", fullgraph=True, dynamic=False)


REFUSALS = (torch._dynamo.exc.TorchDynamoException, TracingRefusedError)


def test_tracing_is_refused_unless_it_is_allowed():
    guard, compiled = guarded(lambda x: x + 1)
    with pytest.raises(REFUSALS):
        compiled(torch.zeros(2))
    assert not guard.has_traced
    with guard.tracing_allowed():
        assert compiled(torch.zeros(2)).tolist() == [1, 1]
    assert guard.has_traced


def test_what_is_compiled_runs_without_asking_and_something_new_is_refused():
    guard, compiled = guarded(lambda x: x + 1)
    with guard.tracing_allowed():
        compiled(torch.zeros(2))
    assert compiled(torch.ones(2)).tolist() == [2, 2]
    with pytest.raises(REFUSALS):
        compiled(torch.zeros(3))


def test_it_tells_whether_it_was_traced_since_it_was_last_allowed():
    guard, compiled = guarded(lambda x: x + 1)
    with guard.tracing_allowed():
        compiled(torch.zeros(2))
    with guard.tracing_allowed():
        assert not guard.has_traced
        compiled(torch.zeros(2))
        assert not guard.has_traced
        compiled(torch.zeros(3))
        assert guard.has_traced


def test_tracing_is_refused_again_after_an_exception():
    guard, compiled = guarded(lambda x: x + 1)
    with pytest.raises(ValueError, match="inside"), guard.tracing_allowed():
        raise ValueError("inside")
    with pytest.raises(REFUSALS):
        compiled(torch.zeros(2))


def test_the_check_leaves_nothing_in_the_graph():
    nodes = []

    def backend(graph, inputs):
        nodes.extend(node.op for node in graph.graph.nodes)
        return graph.forward

    guard = TraceGuard()
    check = guard.check

    def function(x):
        check()
        return x + 1

    with guard.tracing_allowed():
        torch.compile(function, backend=backend, fullgraph=True)(torch.zeros(2))
    assert nodes == ["placeholder", "call_function", "output"]


def test_gradients_may_be_computed_within_a_graph():
    guard, compiled = guarded(lambda x: torch.autograd.grad(x.square().sum(), x)[0])
    with guard.tracing_allowed():
        assert compiled(torch.ones(2, requires_grad=True)).tolist() == [2, 2]


def test_settings_of_the_compiler_are_put_back():
    def settings():
        config = torch._dynamo.config
        return (
            config.trace_autograd_ops,
            config.recompile_limit,
            config.accumulated_recompile_limit,
            torch.compiler.config.dynamic_sources,
        )

    before = settings()
    with TraceGuard().tracing_allowed():
        assert settings() == (True, MAX_GRAPHS, MAX_GRAPHS, ",".join(DYNAMIC))
    assert settings() == before


def test_deprecations_of_torch_are_no_errors_inside_and_those_of_others_are():
    with TraceGuard().tracing_allowed():
        warnings.warn_explicit("its own", DeprecationWarning, "file.py", 1, module="torch")
        with pytest.raises(DeprecationWarning, match="mine"):
            warnings.warn("mine", DeprecationWarning, stacklevel=1)


@pytest.mark.parametrize(
    "source",
    [
        "L['batch_idx']",
        "L['momenta'][0]",
        "L['self']._trainer.progress.global_step",
        "L['module']._trainer._progress.epoch",
        "L['module'].accuracy._update_count",
    ],
)
def test_counters_are_inputs_of_a_graph(source):
    assert any(re.match(pattern, source) for pattern in DYNAMIC)


@pytest.mark.parametrize("source", ["L['self'].width", "L['place'].divisor", "L['self'].progress.batches_of_mine"])
def test_other_integers_are_constants(source):
    assert not any(re.match(pattern, source) for pattern in DYNAMIC)
