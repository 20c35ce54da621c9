from __future__ import annotations

import pytest
import torch

from trainkit.checkpoint.shown import form, shown


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.1, "0.1"),
        ("a\x1b[2J", r"'a\x1b[2J'"),
        ("a" * 50, "'" + "a" * 29 + "..."),
        ({"w": torch.zeros(2, 3)}, "{'w': a tensor, float32[2, 3]}"),
        ([torch.zeros(10**6)], "[a tensor, float32[1000000]]"),
        (list(range(10**6)), "[0, 1, 2, 3, 4, 5, 6, 7, 8, 9,..."),
    ],
)
def test_a_value_is_shown_on_one_line_and_cut_off(value: object, text: str) -> None:
    assert shown(value, 30) == text


def test_the_form_of_a_tensor_tells_what_is_unusual() -> None:
    assert form(torch.zeros(2, 3, dtype=torch.float64)) == "float64[2, 3]"
    assert form(torch.eye(2).to_sparse()) == "float32[2, 2] sparse_coo"
    assert form(torch.empty(2, device="meta")) == "float32[2] on meta"
