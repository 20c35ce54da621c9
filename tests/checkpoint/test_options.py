from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import nn
from torch.optim import lr_scheduler

from trainkit.checkpoint.options import argument_types, is_finite, is_negative, wrong_in_options

PARAMETERS = [nn.Parameter(torch.zeros(3))]


def wrong(options: dict[str, Any], **made_with: Any) -> list[str]:
    optimizer = torch.optim.AdamW(PARAMETERS, **made_with)
    return [each for each in wrong_in_options(optimizer, options, optimizer.param_groups[0], "group") if each]


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"eps": None}, "group.eps is None, and a float was expected"),
        ({"eps": True}, "group.eps is True"),
        ({"betas": [0.9]}, "group.betas is a tuple, and a tuple of 2 was expected"),
        ({"weight_decay": math.inf}, "group.weight_decay is inf"),
        ({"weight_decay": -1}, "group.weight_decay is -1.0, and that of the code is not below 0"),
        ({"betas": (0.9, math.nan)}, r"group.betas[1] is nan"),
        ({"lr": math.nan}, "group.lr is nan"),
        ({"lr": torch.zeros(3)}, "group.lr has the shape (3,), and () was expected"),
        ({"lr": torch.tensor(1j)}, "group.lr has the dtype torch.complex64"),
        ({"max_lr": "x"}, "group.max_lr is 'x'"),
    ],
)
def test_what_is_wrong_with_options_is_told(options: dict[str, Any], told: str) -> None:
    assert wrong(options)[0].startswith(told)


@pytest.mark.parametrize(
    "options", [{"lr": -0.1}, {"lr": torch.tensor(0.1)}, {"betas": [0.9, 0.99]}, {"foreach": None}, {"more": "x"}]
)
def test_options_that_may_be_are_taken(options: dict[str, Any]) -> None:
    assert wrong(options) == []


def test_what_the_code_itself_has_is_no_fault_of_the_file() -> None:
    assert wrong({"lr": torch.tensor([0.1])}, lr=torch.tensor([0.2])) == []
    optimizer = torch.optim.SGD(PARAMETERS, dampening=-0.5)
    assert [*wrong_in_options(optimizer, {"dampening": -0.1}, optimizer.param_groups[0], "")] == [""]


def test_schedulers_keep_arguments_under_other_names() -> None:
    optimizer = torch.optim.SGD(PARAMETERS)
    scheduler = torch.optim.swa_utils.SWALR(optimizer, 0.1)
    found = wrong_in_options(scheduler, {"_anneal_strategy": "x"}, vars(scheduler), "")
    assert next(filter(None, found)).startswith("_anneal_strategy is 'x', and 'cos' or 'linear' was expected")


def test_types_of_arguments_are_those_that_torch_has_annotated() -> None:
    assert argument_types(lr_scheduler.StepLR(torch.optim.SGD(PARAMETERS), 2))["step_size"] is int


def test_numbers_are_found_in_whatever_they_are() -> None:
    assert is_finite({"a": [1, torch.zeros(2)], "b": "x"})
    assert not is_finite([torch.tensor([math.inf])])
    assert is_negative((0.9, -1))
    assert not is_negative({"a": "-1"})
