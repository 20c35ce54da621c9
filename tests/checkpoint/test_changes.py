from __future__ import annotations

import math
from typing import Any

import pytest
import torch

from trainkit.checkpoint.changes import MISSING, Change, find_changes, is_class, is_in_state, same, table


class Odd:
    """Compares as an array does."""

    def __init__(self, number: int) -> None:
        self.number = number

    def __eq__(self, other: object) -> Any:
        return torch.ones(2)

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"Odd({self.number})"


EQUAL: list[tuple[Any, Any]] = [
    (math.nan, math.nan),
    ([1, math.nan], [1, math.nan]),
    ((1, 2), [1, 2]),
    ({"a": {"b": [1.0]}}, {"a": {"b": [1]}}),
    ({1, 2}, {2, 1}),
    (torch.tensor([1.0, math.nan]), torch.tensor([1.0, math.nan])),
    (Odd(1), Odd(1)),
    (None, None),
]
DIFFERENT: list[tuple[Any, Any]] = [
    (0.1, 0.1 + 1e-17 + 1e-16),
    (1, "1"),
    ([1], [1, 2]),
    ({"a": 1}, {"b": 1}),
    ({1}, {2}),
    (torch.zeros(2), torch.zeros(3)),
    (torch.zeros(2), torch.zeros(2, dtype=torch.float64)),
    (torch.zeros(40), torch.ones(40)),
    (torch.zeros(2), [0.0, 0.0]),
    (Odd(1), Odd(2)),
    (None, MISSING),
    ("a b", "a\nb"),
    ([0] * 1000 + [1], [0] * 1000 + [2]),
    ("x" * 500 + "1", "x" * 500 + "2" + "y" * 500),
]


@pytest.mark.parametrize(("first", "second"), EQUAL)
def test_equal_values_are_the_same(first: Any, second: Any) -> None:
    assert same(first, second)
    assert find_changes({"a": first}, {"a": second}, ()) == []


@pytest.mark.parametrize(("first", "second"), DIFFERENT)
def test_other_values_are_told_by_texts_that_differ(first: Any, second: Any) -> None:
    assert not same(first, second)
    text = table([Change("optimizer.lr", first, second, "code")], "a.ckpt")
    line = text.splitlines()[-1]
    before, now = (
        each.strip() for each in line.removeprefix("    optimizer.lr").removesuffix("code").split("  ", 3)[1:3]
    )
    assert before != now
    assert max(map(len, text.splitlines())) <= 100


def test_a_float_is_shown_in_full() -> None:
    assert "0.30000000000000004  0.3" in table([Change("optimizer.lr", 0.1 + 0.2, 0.3, "checkpoint")], "a.ckpt")


def test_a_table_names_the_file_both_values_what_holds_and_what_to_do() -> None:
    changes = find_changes(
        {"optimizer.lr": 0.1, "scheduler.T_max": 10, "batch_size": 32},
        {"optimizer.lr": 0.01, "scheduler.T_max": 20, "batch_size": 64},
        {"scheduler.T_max"},
    )
    assert table(changes, "last.ckpt").splitlines() == [
        "last.ckpt was saved by a run that was made with other values:",
        "    what             checkpoint  code  holds",
        "    optimizer.lr     0.1         0.01  checkpoint",
        "    scheduler.T_max  10          20    code",
        "    batch_size       32          64    code",
        "Where the checkpoint's value holds, take=['lr'] of fit takes the code's, as does --take lr on the",
        "command line.",
    ]


def test_where_a_class_differs_its_arguments_are_not_told() -> None:
    before = {"scheduler": "StepLR", "scheduler.gamma": 0.1, "scheduler[0].x": 1, "schedulers_of_mine": 1}
    now = {"scheduler": "CosineAnnealingLR", "scheduler.T_max": 3, "schedulers_of_mine": 2}
    assert [change.name for change in find_changes(before, now, ())] == ["scheduler", "schedulers_of_mine"]


def test_what_one_side_does_not_have_is_told() -> None:
    changes = find_changes({"a": 1}, {"b": None}, ())
    assert [(each.name, each.before, each.now) for each in changes] == [("b", MISSING, None), ("a", 1, MISSING)]


def test_the_state_of_an_optimizer_holds_its_arguments_and_not_when_a_scheduler_steps() -> None:
    assert is_in_state("optimizers[1].lr")
    assert not is_in_state("scheduler.interval")
    assert not is_in_state("callbacks.scheduler.gamma")
    assert is_class("scheduler[0]")
    assert not is_class("scheduler[0].gamma")


def test_passwords_and_the_like_are_not_shown() -> None:
    before, now = ({"hparams.token": word, "hparams.db": {"password": word, "host": word}} for word in ("one", "two"))
    text = table(find_changes(before, now, ()), "a.ckpt")
    assert "hparams.token  (not shown)" in text
    assert "'(not shown)', 'host': 'one'}" in text
    assert "'password': 'one'" not in text
