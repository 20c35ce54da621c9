from __future__ import annotations

import warnings
from typing import Any

import pytest
import torch

from trainkit.checkpoint.averages import (
    AVERAGE,
    AVERAGING_STATE,
    NEWEST,
    load_newest,
    warn_of_idle_averages,
    warn_of_lost_numbers,
)
from trainkit.hooks.bound import NO_OP


def weights(value: float, *names: str) -> dict[str, torch.Tensor]:
    return {name: torch.full((2,), value) for name in names}


def checkpoint(**callbacks: Any) -> dict[str, Any]:
    return {"state_dict": weights(1, "a", "b"), "callbacks": callbacks, "counts": {"loads": 0}}


def renames(checkpoint: dict[str, Any]) -> None:
    held = checkpoint["state_dict"]
    held["c"] = held.pop("a").add_(10)
    checkpoint["counts"]["loads"] += 1


def test_a_fit_goes_on_with_the_newest_weights() -> None:
    saved = checkpoint() | {NEWEST: weights(2, "a", "b")}
    load_newest(saved, NO_OP)
    assert saved["state_dict"]["a"].tolist() == [2, 2]
    assert NEWEST not in saved


def test_the_hook_reaches_each_average_and_does_the_rest_once() -> None:
    saved = checkpoint(x={AVERAGE: weights(3, "a", "b")}, y={AVERAGE: weights(4, "a")}) | {NEWEST: weights(2, "a", "b")}
    load_newest(saved, renames)
    assert saved["state_dict"]["c"].tolist() == [12, 12]
    assert [saved["callbacks"][key][AVERAGE]["c"].tolist() for key in "xy"] == [[13, 13], [14, 14]]
    assert all("a" not in saved["callbacks"][key][AVERAGE] for key in "xy")
    assert saved["counts"] == {"loads": 1}


@pytest.mark.parametrize("state", [{AVERAGE: 0.5}, {AVERAGE: {}}, {AVERAGE: {"z": 1}}, {}, "text"])
def test_what_is_no_average_of_the_weights_stays_as_it_is(state: Any) -> None:
    saved = checkpoint(x=state)
    load_newest(saved, renames)
    assert saved["callbacks"] == {"x": state}


def test_a_file_of_weights_alone_is_loaded_too() -> None:
    saved = {"state_dict": weights(1, "a"), "counts": {"loads": 0}}
    load_newest(saved, renames)
    assert list(saved["state_dict"]) == ["c"]


def test_an_older_file_has_the_average_as_its_weights_alone() -> None:
    saved = checkpoint(x={"latest_update_step": 3}) | {NEWEST: weights(2, "a", "b"), AVERAGING_STATE: {"n_averaged": 7}}
    load_newest(saved, NO_OP)
    assert saved["callbacks"]["x"][AVERAGE]["a"].tolist() == [1, 1]
    assert saved["callbacks"]["x"]["n_averaged"] == 7


def test_an_average_that_nobody_goes_on_with_is_told() -> None:
    states = {"x": {AVERAGE: weights(3, "a")}, "y": {"n": 1}}
    with pytest.warns(UserWarning, match="that of x, which is not among the callbacks"):
        warn_of_idle_averages(["x", "y"], states, weights(1, "a"))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warn_of_idle_averages(["y"], states, weights(1, "a"))


def test_an_average_that_is_lost_beside_weights_that_are_not_is_told() -> None:
    average, newest = weights(float("nan"), "a"), weights(1, "a", "b")
    with pytest.warns(UserWarning, match=r"holds NaN or infinite numbers \(a\)"):
        warn_of_lost_numbers(average, newest)
    with warnings.catch_warnings(action="error"):
        warn_of_lost_numbers(weights(2, "a"), newest)
        warn_of_lost_numbers(average, newest | weights(float("inf"), "b"))  # the run itself was lost
