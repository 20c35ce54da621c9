from __future__ import annotations

import contextlib
from dataclasses import replace

import pytest
import torch
from torch import nn

from benchmarks import contenders
from benchmarks.cases import CASES
from benchmarks.cases.memory import Watched
from benchmarks.cases.steps import StepCase
from benchmarks.job import Unsupported
from benchmarks.tasks import Task

ON_CPU = [
    name
    for name, case in CASES.items()
    if isinstance(case, StepCase) and case.device == "cpu" and name != "compiled-transformer"  # takes long to compile
]
ON_GPU = [name for name, case in CASES.items() if isinstance(case, StepCase) and case.device == "cuda"]
FEW_TURNS = 4

# The loop by hand runs while the next batch is waited for, and so trainkit warns; under measurement nobody listens.
pytestmark = pytest.mark.filterwarnings("ignore:training waits for train_dataloader")


def networks_after(case: StepCase, contender: str) -> list[nn.Module]:
    """Return what the loop by hand has trained, and what the contender has."""
    made: list[nn.Module] = []

    def make_network() -> nn.Module:
        made.append(case.task.make_network())
        return made[-1]

    watched = replace(case.task, make_network=make_network)
    replace(case, task=watched, size=min(case.size, 4)).measure(contenders.load(contender), FEW_TURNS)
    return made


def without_compiler(case: StepCase) -> contextlib.AbstractContextManager[None]:
    if not case.compiled:
        return contextlib.nullcontext()
    import torch._inductor.config as config

    return config.patch(fallback_by_default=True)


@pytest.mark.parametrize("name", ON_CPU)
def test_both_loops_make_the_same_steps(name):
    case = CASES[name]
    with without_compiler(case):
        hand, ours = networks_after(case, "trainkit")[:2]
    closely = {"rtol": 1e-4, "atol": 1e-5} if case.compiled else {"rtol": 0, "atol": 0}
    torch.testing.assert_close(ours.state_dict(), hand.state_dict(), **closely)
    assert any((a != b).any() for a, b in zip(hand.parameters(), case.task.network().parameters(), strict=True))


@pytest.mark.parametrize("name", ["bare", "accumulate-4", "validation"])
def test_a_peer_makes_the_same_steps(name):
    pytest.importorskip("lightning")
    hand, theirs = networks_after(CASES[name], "lightning")
    torch.testing.assert_close(theirs.state_dict(), hand.state_dict(), rtol=1e-5, atol=1e-6)


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("name", ON_GPU)
def test_cases_run_on_a_gpu(name):
    task: Task = CASES[name].task
    if task.name == "ResNet-50":
        pytest.importorskip("torchvision")
    assert CASES[name].measure(contenders.load("trainkit"), 2)["wall"].pairs > 0


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
@pytest.mark.parametrize("name", ON_GPU)
def test_a_missing_gpu_is_said(name):
    with pytest.raises(Unsupported, match="needs a CUDA device"):
        CASES[name].measure(contenders.load("trainkit"), 1)


@pytest.mark.parametrize("name", ["fit-call", "import", "memory", "data", "timing"])
def test_what_is_no_step_is_measured_too(name):
    case = CASES[name]
    comparison = case.measure(contenders.load("trainkit"), 1)[case.clock]
    assert comparison.pairs == 1


def test_memory_is_looked_at_after_a_tenth_and_at_the_end():
    watched = Watched("batch", 20)
    looks = [len(watched.resident) for _ in watched]
    assert looks == [0] * 2 + [1] * 18
    assert len(watched.resident) == 2
    assert watched.growth == watched.resident[1] - watched.resident[0]


def test_a_contender_without_the_feature_says_so():
    pytest.importorskip("lightning")
    with pytest.raises(Unsupported, match="no compiled step"):
        CASES["compiled-mlp"].measure(contenders.load("lightning"), 1)
