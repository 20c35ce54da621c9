from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn
from torch.optim import Optimizer

from trainkit.checkpoint.trial_steps import NOTHING_KNOWN, Expected, expected_states
from trainkit.errors import StateError

SHAPES = ((30, 40), (30, 40), (6,), (), (1, 5), (0, 2))


def expected(optimizer: Optimizer, **changed: Any) -> list[Expected]:
    (own,) = optimizer.param_groups
    return expected_states(optimizer, own | changed, own, "param_groups[0]")


def parameters(*shapes: tuple[int, ...], dtype: torch.dtype = torch.float32) -> list[nn.Parameter]:
    return [nn.Parameter(torch.zeros(shape, dtype=dtype)) for shape in shapes]


def shapes_of(found: Expected) -> dict[str, tuple[int, ...]]:
    return {
        name: found.shape_of(kept.value) for name, kept in found.kept.items() if isinstance(kept.value, torch.Tensor)
    }


@pytest.mark.parametrize("name", ["Adam", "ASGD", "SparseAdam", "Rprop", "SGD"])
def test_most_keep_what_has_the_shapes_of_the_parameters(name: str) -> None:
    options = {"momentum": 0.9} if name == "SGD" else {}
    found = expected(getattr(torch.optim, name)(parameters(*SHAPES), **options))
    for shape, each in zip(SHAPES, found, strict=True):
        assert set(shapes_of(each).values()) <= {shape, ()}
        assert shape in shapes_of(each).values()


def test_the_shapes_of_what_is_reduced_follow_from_the_dimensions() -> None:
    found = expected(torch.optim.Adafactor(parameters((8, 30, 40), (6,))))
    assert shapes_of(found[0]) == {"step": (), "row_var": (8, 30, 1), "col_var": (8, 1, 40)}
    assert shapes_of(found[1]) == {"step": (), "variance": (6,)}


def test_what_is_kept_for_all_parameters_at_once_has_the_size_of_all() -> None:
    found = expected(torch.optim.LBFGS(parameters((30, 40), (30, 40), (7,)), history_size=9))[0]
    assert shapes_of(found)["d"] == shapes_of(found)["prev_flat_grad"] == (2407,)
    assert (found.kept["al"].length, found.kept["old_dirs"].length) == (9, None)
    assert found.lacking(["func_evals", "n_iter"]) == []  # it was at the minimum at once
    assert found.lacking(["func_evals", "n_iter", "d"]) == [
        *("H_diag", "old_dirs", "old_stps", "prev_flat_grad", "prev_loss", "ro", "t")
    ]


def test_what_is_never_negative_is_found() -> None:
    kept = expected(torch.optim.Adam(parameters((3, 4)), amsgrad=True))[0].kept
    assert {name for name, each in kept.items() if not each.is_never_negative} == {"exp_avg"}


def test_the_options_of_the_file_count() -> None:
    optimizer = torch.optim.Adam(parameters((3,)))
    assert "max_exp_avg_sq" in expected(optimizer, amsgrad=True)[0].kept
    with pytest.raises(StateError, match=r"param_groups\[0\] has options that Adam does not take: Invalid beta"):
        expected(optimizer, betas=(7.0, 0.9))
    with pytest.raises(StateError, match="does not take: decoupled_weight_decay is False"):
        expected(torch.optim.AdamW(parameters((3,))), decoupled_weight_decay=False)


def test_a_rate_that_a_schedule_has_led_below_zero_is_taken() -> None:
    assert expected(torch.optim.SGD(parameters((3,)), momentum=0.9), lr=-0.1)[0].kept


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64, torch.complex64])
def test_what_is_kept_is_of_the_kind_of_the_parameter(dtype: torch.dtype) -> None:
    assert expected(torch.optim.Adam(parameters((3,), dtype=dtype)))[0].kept["exp_avg"].value.dtype == dtype


def test_nothing_is_known_of_what_cannot_step() -> None:
    meta = [nn.Parameter(torch.zeros(3, device="meta"))]
    assert expected(torch.optim.Adafactor(meta)) == [NOTHING_KNOWN]


def test_nothing_random_is_drawn_and_the_optimizer_itself_does_not_step() -> None:
    optimizer = torch.optim.Adam(parameters((3,)))
    before = torch.get_rng_state()
    expected(optimizer)
    assert torch.equal(torch.get_rng_state(), before)
    assert not optimizer.state
