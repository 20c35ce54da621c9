"""What is shared out to another number of ranks: together they have what those had that saved it."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch

from trainkit.errors import StateError
from trainkit.metrics.options import LogOptions
from trainkit.metrics.running import Running
from trainkit.trainer.other_ranks import MORE_METRICS, group_of_all, metrics_for, running_of_all

OPTIONS = {
    "prog_bar": False,
    "logger": True,
    "on_step": False,
    "on_epoch": True,
    "reduce_fx": "mean",
    "sync_dist": None,
    "add_dataloader_idx": True,
    "rank_zero_only": False,
}


def running(reduce_fx: Any, *values: float, tensor: bool = False) -> dict[str, Any]:
    made = Running(reduce_fx)
    for value in values:
        made.add(torch.tensor(value, dtype=torch.float64) if tensor else value, 2.0)
    return made.state_dict()


def metrics(*values: float, sync_dist: bool | None = None, name: str = "loss") -> dict[str, Any]:
    slot = {
        "name": name,
        "place": 0,
        "options": OPTIONS | {"sync_dist": sync_dist},
        "running": running("mean", *values),
    }
    return {"phases": {"train": {"slots": [slot]}}, "torchmetrics": {"total": {"of": values}}}


def values_of(state: dict[str, Any]) -> dict[str, Any]:
    return {each["name"]: each["running"] for each in state["phases"]["train"]["slots"]}


def test_options_are_those_of_log():
    assert LogOptions(**OPTIONS).syncs_epoch


@pytest.mark.parametrize("tensor", [False, True])
@pytest.mark.parametrize("reduce_fx", ["mean", "sum", "min", "max"])
def test_a_value_of_several_ranks_is_that_of_all_they_have_logged(reduce_fx: str, tensor: bool):
    parts = [running(reduce_fx, *values, tensor=tensor) for values in ((1.0, 4.0), (2.0,))]
    both = Running.from_state(running_of_all(parts[0], parts)).value()
    alone = Running.from_state(running(reduce_fx, 1.0, 4.0, 2.0, tensor=tensor)).value()
    assert float(both) == float(alone)
    assert isinstance(both, torch.Tensor) is tensor


def test_a_rank_that_is_new_begins_with_no_values():
    assert running_of_all(running("mean", 1.0), [])["weight"] == 0
    assert running_of_all(running("max", 1.0), [])["total"] == -math.inf


def test_nan_is_kept():
    assert math.isnan(running_of_all(running("max"), [running("max", math.nan), running("max", 1.0)])["total"])


@pytest.mark.parametrize("ranks", [1, 2, 3, 5])
def test_logged_values_are_there_once(ranks: int):
    saved = [metrics(1.0, 2.0), metrics(6.0), metrics(3.0)]
    shared = [metrics_for(saved, rank, ranks) for rank in range(ranks)]
    totals = [values_of(each)["loss"] for each in shared]
    assert sum(each["total"] for each in totals) == 24.0
    assert sum(each["weight"] for each in totals) == 8.0
    held = [state["total"]["of"] for each in shared for state in (each["torchmetrics"], *each[MORE_METRICS]) if state]
    assert sorted(held) == [(1.0, 2.0), (3.0,), (6.0,)]


def test_what_another_rank_alone_has_logged_is_not_lost():
    assert values_of(metrics_for([metrics(1.0), metrics(5.0, name="other")], 0, 1)).keys() == {"loss", "other"}


def test_what_each_rank_keeps_for_itself_is_not_added():
    assert values_of(metrics_for([metrics(1.0, sync_dist=False), metrics(5.0)], 0, 1))["loss"]["total"] == 2.0


def test_a_validation_that_uses_a_metric_of_training_cannot_begin_anew():
    saved = metrics(1.0)
    saved["phases"]["validate"] = {"slots": [], "aside": {"around": {"total": {}}}}
    with pytest.raises(StateError, match="a torchmetrics object of training"):
        metrics_for([saved, saved], 0, 1)


@pytest.mark.parametrize("ranks", [1, 2, 3])
@pytest.mark.parametrize("divisor", [0, 4])
def test_an_open_group_makes_the_update_that_it_would_have_made(ranks: int, divisor: int):
    def group(gradient: float, weight: float) -> dict[str, Any]:
        return {"divisor": divisor, "weight": weight, "loss": weight, "gradients": {"a": torch.tensor([gradient])}}

    groups = [group(3.0, 2.0), group(5.0, 6.0)]
    shared = group_of_all(groups, ranks)
    assert shared is not None
    mean = shared["gradients"]["a"]  # of as many ranks that all have it
    weights = shared["weight"] * ranks
    # What `Accumulation.rescale` makes of sums: times the ranks, divided by the weight of all.
    expected = (3.0 + 5.0) / 8.0 if divisor == 0 else (3.0 + 5.0) / 2
    assert float(mean * ranks / weights if divisor == 0 else mean) == pytest.approx(expected)


def test_of_a_gradient_that_some_ranks_have_the_others_have_none():
    one = {"divisor": 1, "weight": 0.0, "loss": 0.0, "gradients": {"a": torch.ones(1)}}
    shared = group_of_all([one, one | {"gradients": {}}], 1)
    assert shared is not None
    assert float(shared["gradients"]["a"]) == 0.5
    assert group_of_all([None, None], 3) is None
