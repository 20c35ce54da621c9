from __future__ import annotations

from typing import Any

import pytest
import torch

from trainkit.checkpoint.lightning_callbacks import callbacks_from_lightning


def converted(state: dict[str, Any]) -> Any:
    return callbacks_from_lightning({"callbacks": {"Callback": state}})["callbacks"]["Callback"]


def test_a_checkpoint_without_callbacks_gives_none() -> None:
    assert callbacks_from_lightning({}) == {"callbacks": {}}


def test_a_state_that_means_the_same_is_kept_under_its_key() -> None:
    states = {"EarlyStopping{'monitor': 'x'}": {"wait_count": 2, "best_score": 0.5}, "Own": {"n": 1}}
    assert callbacks_from_lightning({"callbacks": states}) == {"callbacks": states}


def test_a_timer_remembers_the_time_that_was_trained() -> None:
    assert converted({"time_elapsed": {"train": 12.5, "sanity_check": 1.0, "validate": 3.0}}) == {"time_elapsed": 12.5}


def test_a_timer_of_trainkit_in_lightnings_clothes_stays() -> None:
    assert converted({"time_elapsed": 12.5}) == {"time_elapsed": 12.5}


def test_finetuning_remembers_the_parameters_of_each_group_in_the_order_of_the_optimizers() -> None:
    metadata = {1: [{"params": ["head.bias"]}], 0: [{"params": ["a.weight", "a.bias"], "lr": 0.1}, {"params": ["b"]}]}
    state = converted({"internal_optimizer_metadata": metadata, "previous_backbone_lr": 0.01})
    assert state == {
        "previous_backbone_lr": 0.01,
        "finetuning": {
            "trained": ["a.weight", "a.bias", "b", "head.bias"],
            "fixed_statistics": [],
            "groups": [[["a.weight", "a.bias"], ["b"]], [["head.bias"]]],
        },
    }


@pytest.mark.parametrize("averaged", [0, 3])
def test_an_average_is_taken_over_once_something_was_averaged(averaged: int) -> None:
    average = {"layer.weight": torch.ones(2)}
    state = {"n_averaged": averaged, "average_model_state": average, "scheduler_state": None}
    assert converted(state) == {"count": averaged, "average": average if averaged else {}, "scheduler": None}


def test_an_average_that_is_not_there_is_empty() -> None:
    assert converted({"n_averaged": 2, "average_model_state": None, "scheduler_state": None})["average"] == {}


def test_a_scheduler_of_the_averaging_takes_the_place_of_the_others() -> None:
    average = {"n_averaged": 1, "average_model_state": {}, "scheduler_state": {"last_epoch": 3}}
    own = callbacks_from_lightning({"callbacks": {"StochasticWeightAveraging": average}})
    assert own["lr_schedulers"] == []
    assert own["callbacks"]["StochasticWeightAveraging"]["scheduler"] == {"last_epoch": 3}
    assert "lr_schedulers" not in callbacks_from_lightning({"callbacks": {"Other": {"n": 1}}})
