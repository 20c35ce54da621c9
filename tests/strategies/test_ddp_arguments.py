"""Two processes with each argument of `DDP`: the gradients stay what they are, and what cannot be is said at once."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch.testing import assert_close

from trainkit.errors import ConfigError
from trainkit.strategies import DDP

from .started import Ranks

Rank = dict[str, Any]


@pytest.fixture(scope="module")
def ranks(tmp_path_factory: pytest.TempPathFactory) -> list[Rank]:
    folder = tmp_path_factory.mktemp("ranks")
    ended = Ranks(str(Path(__file__).with_name("argument_ranks.py")), folder).ended()
    assert [each.code for each in ended] == [0, 0], "\n".join(each.text for each in ended)
    return [torch.load(folder / f"rank_{rank}.pt") for rank in range(2)]


SAME = {
    "default": [
        "no views", "views of zeros", "small buckets", "static", "static, recomputed",
        "static, recomputed with reentry", "hook",
    ],
    "grouped": ["grouped, no views", "grouped, views of zeros", "grouped, static", "grouped, hook"],
    "by hand": ["by hand, no views"],
    "unused": ["unused, no views"],
}  # fmt: skip


@pytest.mark.distributed
@pytest.mark.parametrize(("name", "other"), [(name, other) for name, others in SAME.items() for other in others])
def test_how_gradients_are_sent_does_not_change_them(ranks: list[Rank], name: str, other: str):
    for rank in ranks:
        assert_close(rank[other], rank[name], rtol=1e-9, atol=1e-12)
    assert len(ranks[0][name]["seen"]) == (4 if name == "grouped" else 8)


@pytest.mark.distributed
@pytest.mark.parametrize("name", [*SAME, "own buffers", "half", "half, wrapped", "low rank"])
def test_ranks_see_the_same_gradients_and_keep_the_same_weights(ranks: list[Rank], name: str):
    for part in ("weights", "seen", "gradients"):
        assert_close(ranks[0][name][part], ranks[1][name][part], rtol=0, atol=0)


@pytest.mark.distributed
@pytest.mark.parametrize("name", ["half", "half, wrapped", "low rank"])
def test_a_hook_exchanges_something_else(ranks: list[Rank], name: str):
    weights, exact = ranks[0][name]["weights"], ranks[0]["default"]["weights"]
    assert any((weights[each] != exact[each]).any() for each in exact)
    if name != "low rank":
        assert_close(weights, exact, rtol=1e-2, atol=1e-2)


@pytest.mark.distributed
def test_buffers_are_those_of_each_rank_where_they_are_not_to_be_sent(ranks: list[Rank]):
    first, second = (rank["own buffers"]["buffers"]["norm.running_mean"] for rank in ranks)
    assert (first != second).all()


@pytest.mark.distributed
def test_that_the_error_of_a_hook_is_in_no_checkpoint_is_told(ranks: list[Rank]):
    assert "continues, but not exactly: what PowerSGDState, its comm_state, has collected" in ranks[0]["resumed"]


@pytest.mark.distributed
@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("hook by hand", "ConfigError: DDP(comm_hook=allreduce_hook) cannot be used with manual optimization"),
        ("hook in parts", "ConfigError: DDP(comm_hook=allreduce_hook) cannot be used with accumulate_grad_batches="),
        ("other hook", "ConfigError: DDP(comm_hook=takes_something_else) cannot be used here: "),
        ("shared statistics", "DeviceError: sync_batchnorm=True needs GPUs"),
        ("sharded optimizer", "OptimizerError: ZeroRedundancyOptimizer keeps a part of its state on each rank"),
    ],
)
def test_what_cannot_be_is_said_ahead_of_training(ranks: list[Rank], name: str, message: str):
    for rank in ranks:
        assert rank[name].startswith(message)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"bucket_cap_mb": 0}, "bucket_cap_mb=0"),
        ({"bucket_cap_mb": "25"}, "bucket_cap_mb='25'"),
        ({"broadcast_buffers": "no"}, "broadcast_buffers='no'"),
        ({"comm_hook": 3}, "comm_hook=3 must be a function"),
        ({"comm_state": object()}, "is for a comm_hook, and there is none"),
    ],
)
def test_bad_arguments_are_refused(arguments: dict[str, Any], message: str):
    with pytest.raises(ConfigError, match=message):
        DDP(**arguments)
