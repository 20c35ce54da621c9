"""Some wrong states of every optimizer and scheduler; ``python -m tests.checkpoint_fuzz.spoiled_states`` tries more."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

from tests.checkpoint_fuzz.spoiled_states import PROGRAMS, Spoiled, draw, optimizers

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def spoiled(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Spoiled]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # as in the processes that are forked
    yield Spoiled(tmp_path_factory.mktemp("spoiled"))
    torch.set_num_threads(threads)


@pytest.mark.parametrize("program", PROGRAMS)
def test_a_wrong_value_is_named_or_means_nothing(spoiled: Spoiled, program: str) -> None:
    found = {str(each): spoiled.meet(each) for each in draw(spoiled, program, count=4, seed=0)}
    assert {each: how for each, how in found.items() if how.startswith("BAD")} == {}


def test_every_optimizer_of_torch_is_among_them() -> None:
    of_torch = {
        name
        for name, kind in vars(torch.optim).items()
        if isinstance(kind, type) and issubclass(kind, torch.optim.Optimizer) and kind is not torch.optim.Optimizer
    }
    assert of_torch <= {name.split()[0] for name in optimizers()}
