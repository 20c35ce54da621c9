from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
import torch._dynamo
from torch import nn

from trainkit.errors import CompileError
from trainkit.loops.compiled import explain
from trainkit.testing import TinyModule


class Mine(TinyModule):
    pass


def dynamo_error(function, *arguments):
    """Return what Dynamo raises where ``function`` cannot become one graph."""
    with pytest.raises(torch._dynamo.exc.TorchDynamoException) as caught:
        torch.compile(function, backend="eager", fullgraph=True)(*arguments)
    return caught.value


def lines_of(error):
    return str(error).splitlines()


def test_an_obstacle_is_named_with_its_place_and_what_to_do():
    def branches(x):
        if x.sum() > 0:  # on a value
            return x
        return -x

    error = explain.explained(dynamo_error(branches, torch.ones(2)), Mine())
    first, why, *rest = lines_of(error)
    assert isinstance(error, CompileError)
    assert first == 'compile="step" cannot make one graph of Mine.training_step.'
    assert why.startswith("    why          ")
    assert why.split(None, 1)[1], "the reason is not empty"
    places = [line for line in rest if line.startswith("    where        ")]
    assert any(f"{__file__}:" in line and "on a value" in line for line in places), places
    todo = [line for line in rest if line.startswith(("    to do", "    or "))]
    assert todo == [
        f"    to do        {explain.OBSTACLES['data-dependent']}",
        "    or           use compile=True, which compiles the layers, or leave compile out",
    ]


def test_an_obstacle_that_is_not_known_has_a_remedy_too():
    error = explain.explained(RuntimeError("\n  something else\nExplanation: because of that\n"), Mine())
    assert lines_of(error) == [
        'compile="step" cannot make one graph of Mine.training_step.',
        "    why          something else",
        "                 because of that",
        "    to do        use compile=True, which compiles the layers, or leave compile out",
    ]


@pytest.mark.parametrize(("word", "remedy"), explain.OBSTACLES.items())
def test_a_known_obstacle_is_known_however_it_is_spelt(word, remedy):
    assert f"    to do        {remedy}" in lines_of(explain.explained(RuntimeError(word.capitalize()), Mine()))


def test_an_error_without_words_is_named_by_its_type():
    assert "    why          KeyError" in lines_of(explain.explained(KeyError(), Mine()))


def test_an_error_of_our_own_is_handed_on():
    own = CompileError("mine")
    outer = RuntimeError("outer")
    outer.inner_exception = own
    assert explain.explained(outer, Mine()) is own
    outer.inner_exception = ValueError("not ours")
    assert "outer" in str(explain.explained(outer, Mine()))


def test_places_are_those_of_the_user_and_of_the_library_that_was_called_there():
    def frame(filename, lineno):
        return SimpleNamespace(filename=filename, lineno=lineno, line=f"line {lineno}")

    error = RuntimeError("why")
    error.real_stack = [
        frame("/home/me/module.py", 1),
        frame("/home/me/module.py", 2),
        frame("/lib/site-packages/other/thing.py", 3),
        frame("/lib/site-packages/trainkit/loops/compiled/graph.py", 4),
    ]
    places = [line for line in lines_of(explain.explained(error, Mine())) if "where" in line]
    assert places == [
        "    where        /home/me/module.py:2: line 2",
        "    where        /lib/site-packages/other/thing.py:3: line 3",
    ]
    error.real_stack = error.real_stack[:1]
    places = [line for line in lines_of(explain.explained(error, Mine())) if "where" in line]
    assert places == ["    where        /home/me/module.py:1: line 1"]


def test_compiling_over_and_over_says_which_value_changes():
    module = Mine()

    def body(x):
        return x * module.factor

    compiled = torch.compile(body, backend="eager", dynamic=False)
    for factor in (1.5, 2.5):
        module.factor = factor
        compiled(torch.ones(2))
    message = str(explain.compiled_too_often(module, 4))
    assert "compiled Mine.training_step 4 times" in message
    assert "factor" in message
    assert "HINT" not in message
    assert message.splitlines()[-1] == (
        "    to do        what changes from step to step must be a tensor, such as a buffer that is changed in place"
    )


@pytest.mark.parametrize(("word", "remedy"), [*explain.CHANGES.items()])
def test_what_changes_in_known_ways_has_a_remedy_of_its_own(monkeypatch, word, remedy):
    import torch._dynamo.utils

    metrics = SimpleNamespace(recompile_reason=f"0/0: L{word}[0]['lr'] == 0.1")
    monkeypatch.setattr(torch._dynamo.utils, "get_compilation_metrics", lambda: [metrics])
    assert str(explain.compiled_too_often(Mine(), 4)).endswith(f"    to do        {remedy}")


def test_the_newest_reason_is_told_without_what_torch_advises(monkeypatch):
    import torch._dynamo.utils

    reasons = ("0/0: y == 2", "0/1: x == 1 (HINT: do something else)", None)
    metrics = [SimpleNamespace(recompile_reason=reason) for reason in reasons]
    monkeypatch.setattr(torch._dynamo.utils, "get_compilation_metrics", lambda: metrics)
    assert "x == 1\n" in str(explain.compiled_too_often(Mine(), 4))


def test_shapes_are_counted():
    assert "this is the 17th" in str(explain.too_many_shapes(17))
    assert "to do        pad batches" in str(explain.too_many_shapes(17))


def test_parameters_that_take_part_now_and_then_are_named():
    module = Mine()
    weight, bias = module.layer.weight, module.layer.bias
    stranger = nn.Parameter(torch.zeros(1))
    message = str(explain.uses_other_parameters(module, [weight, bias], [bias, stranger]))
    assert "every step of Mine" in message
    assert "    but not      (outside of the module), layer.weight\n" in message


def test_a_missing_cuda_graph_is_counted_and_warned_of():
    from torch._dynamo.utils import counters

    before = explain.graphs_without_cuda_graph()
    counters["inductor"]["cudagraph_skips"] += 1
    try:
        assert explain.graphs_without_cuda_graph() == before + 1
    finally:
        counters["inductor"]["cudagraph_skips"] -= 1
    with pytest.warns(UserWarning, match="CUDA graph[\\s\\S]*perf_hints"):
        explain.warn_of_missing_cuda_graph()
