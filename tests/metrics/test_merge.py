from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
from torch import nn
from torch.testing import assert_close

from trainkit import TrainModule
from trainkit.errors import MetricError
from trainkit.metrics.merge import Logged, merge_logs, note

CPU = torch.device("cpu")


def logged(*calls: Callable[[TrainModule], None]) -> list[Logged]:
    """Return what a step logs that makes ``calls``."""
    log: list[Logged] = []
    module = TrainModule()
    module._log = partial(note, log)
    for call in calls:
        call(module)
    return log


def values(calls: list[Logged]) -> dict[str, Any]:
    return {name: float(value) for name, value, _ in calls}


def test_what_is_noted_is_cut_off_from_its_graph_and_from_what_becomes_of_the_tensor() -> None:
    loss = torch.ones(1, requires_grad=True).sum()
    state = torch.tensor(1.0)
    log = logged(lambda module: module.log("loss", loss), lambda module: module.log("state", state))
    state.add_(1.0)
    assert not log[0][1].requires_grad
    assert values(log) == {"loss": 1.0, "state": 1.0}


def test_means_are_weighed_by_samples_and_other_reductions_go_over_the_parts() -> None:
    def part(value: float) -> list[Logged]:
        return logged(
            lambda module: module.log("mean", value),
            lambda module: module.log("sum", value, reduce_fx="sum"),
            lambda module: module.log("min", torch.tensor(value), reduce_fx=min),
            lambda module: module.log("max", value, reduce_fx=torch.max),
        )

    merged = merge_logs([part(1.0), part(5.0)], [3, 1], CPU)
    assert [name for name, _, _ in merged] == ["mean", "sum", "min", "max"]
    assert values(merged) == {"mean": 2.0, "sum": 6.0, "min": 1.0, "max": 5.0}


@pytest.mark.parametrize("as_value", [int, torch.tensor])
@pytest.mark.parametrize("counts", [[1, 2], [0, 0]])
def test_whole_numbers_stay_whole(as_value: Callable[[int], Any], counts: list[int]) -> None:
    parts = [
        logged(
            lambda module: module.log("mean", as_value(67_128_463)),
            lambda module: module.log("sum", as_value(67_128_463), reduce_fx="sum"),
        )
        for _ in counts
    ]
    expected = {"mean": 67_128_463.0 if any(counts) else 0.0, "sum": 134_256_926.0}
    assert values(merge_logs(parts, counts, CPU)) == expected


def test_float32_stays_float32() -> None:
    parts = [logged(lambda module: module.log("x", torch.tensor(0.1))) for _ in range(3)]
    ((_, value, _),) = merge_logs(parts, [1, 1, 5], CPU)
    assert_close(value, torch.tensor(0.1), rtol=0, atol=0)


def test_a_part_that_skipped_weighs_nothing() -> None:
    merged = merge_logs([[], logged(lambda module: module.log("x", 4.0))], [3, 1], CPU)
    assert values(merged) == {"x": 4.0}


def test_options_are_those_that_were_given() -> None:
    parts = [logged(lambda module: module.log("x", 1.0, prog_bar=True, on_epoch=True)) for _ in range(2)]
    ((_, _, options),) = merge_logs(parts, [1, 1], CPU)
    assert options == parts[0][0][2]


def test_a_batch_size_of_ones_own_weighs_in_place_of_the_samples_and_is_added_up() -> None:
    parts = [
        logged(lambda module, size=size, value=value: module.log("per token", value, batch_size=size))  # type: ignore[misc]
        for size, value in ((10, 0.0), (30, 1.0))
    ]
    ((_, value, options),) = merge_logs(parts, [2, 2], CPU)
    assert_close(value, torch.tensor(0.75, dtype=torch.float64))
    ((_, _, whole),) = logged(lambda module: module.log("per token", 0.0, batch_size=40))
    assert options == whole
    assert parts[0][0][2] != whole, "what was noted stays as it was"


def test_a_name_that_is_logged_twice_in_a_part_is_merged_call_by_call() -> None:
    def part(first: float, second: float) -> list[Logged]:
        return logged(lambda module: module.log("x", first), lambda module: module.log("x", second))

    merged = merge_logs([part(1.0, 10.0), part(3.0, 30.0)], [1, 1], CPU)
    assert [(name, float(value)) for name, value, _ in merged] == [("x", 2.0), ("x", 20.0)]


def test_merged_values_have_no_graph() -> None:
    log: list[Logged] = [("x", torch.ones((), requires_grad=True), logged(lambda module: module.log("x", 1.0))[0][2])]
    ((_, value, _),) = merge_logs([log, log], [1, 1], CPU)
    assert not value.requires_grad


def test_an_object_with_a_state_is_refused_where_each_part_has_its_own_and_kept_where_all_share_it() -> None:
    metric = nn.Identity()
    parts = [logged(lambda module: module.log("accuracy", metric)) for _ in range(2)]
    with pytest.raises(MetricError, match=r"(?s)log\('accuracy'\) got a Identity in a replica.*Log a number"):
        merge_logs(parts, [1, 1], CPU)
    ((name, value, _),) = merge_logs(parts, [1, 1], CPU, share_objects=True)
    assert (name, value) == ("accuracy", metric)


def test_an_unknown_reduction_is_refused_by_its_name() -> None:
    parts = [logged(lambda module: module.log("x", 1.0, reduce_fx="medain")) for _ in range(2)]
    with pytest.raises(MetricError, match="reduce_fx='medain'"):
        merge_logs(parts, [1, 1], CPU)
