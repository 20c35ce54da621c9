"""What ranks exchange besides gradients: nothing in a steady step, and one thing at the end of an epoch."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from .started import Ranks

pytestmark = pytest.mark.distributed


@pytest.fixture(scope="module")
def ranks(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    folder = tmp_path_factory.mktemp("ranks")
    ended = Ranks(str(Path(__file__).with_name("counting_ranks.py")), folder).ended()
    assert [each.code for each in ended] == [0, 0], "\n".join(each.text for each in ended)
    return [torch.load(folder / f"rank_{rank}.pt") for rank in range(2)]


STEADY = ["plain", "validating", "stopping", "accumulating", "samples", "time", "finite", "hooked"]


@pytest.mark.parametrize("kind", STEADY)
def test_nothing_is_exchanged_in_a_steady_step(ranks: list[dict[str, Any]], kind: str):
    for rank in ranks:
        assert rank[kind]["batches"] == []


def test_by_hand_only_gradients_are_exchanged_and_ranks_compared_ever_more_rarely(ranks: list[dict[str, Any]]):
    for rank in ranks:
        others = [each for each in rank["manual"]["batches"] if each != "all_reduce"]
        assert len(others) <= 4
        assert all("compare_ranks" in each for each in others)


@pytest.mark.parametrize(
    ("kind", "exchanges"),
    # A validation ends once, and an epoch; what a hook logs at its end has to be told behind it.
    [
        ("plain", 1),
        ("accumulating", 1),
        ("finite", 1),
        ("manual", 1),
        ("validating", 2),
        ("stopping", 2),
        ("hooked", 2),
    ],
)
def test_ranks_exchange_once_at_the_end_of_an_epoch(ranks: list[dict[str, Any]], kind: str, exchanges: int):
    for rank in ranks:
        assert [len(between) for between in rank[kind]["epochs"]] == [exchanges] * 2


def test_a_save_asks_for_what_to_write_and_for_the_states_and_tells_that_it_is_written(ranks: list[dict[str, Any]]):
    for rank in ranks:
        assert [len(between) for between in rank["samples"]["epochs"]] == [1 + 3] * 2


def test_a_save_by_time_is_made_behind_the_same_batch_on_all_ranks(ranks: list[dict[str, Any]]):
    assert ranks[0]["saving by time"]["batches"] == ranks[1]["saving by time"]["batches"] != []


def test_what_rank_0_alone_has_logged_in_a_hook_all_ranks_have(ranks: list[dict[str, Any]]):
    assert [rank["hooked"]["metrics"]["of_hook"].item() for rank in ranks] == [3.0, 3.0]


@pytest.mark.parametrize(("kind", "step"), [("infinite", 3), ("nan, accumulating", 1)])
def test_a_loss_that_is_not_finite_on_one_rank_ends_all_with_their_weights(
    ranks: list[dict[str, Any]], kind: str, step: int
):
    told, of_other = ranks[1][kind], ranks[0][kind]
    assert told.startswith(
        f"the loss is {'inf' if kind == 'infinite' else 'nan'} in batch 3 of epoch 0, at step {step}."
    )
    assert of_other.startswith(f"the loss of another rank is not finite in batch 3 of epoch 0, at step {step}.")
    assert told.endswith(" finite")
    assert of_other.endswith(" finite")
