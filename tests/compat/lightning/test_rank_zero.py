from __future__ import annotations

import logging
import warnings
from pathlib import Path

import pytest
import torch.distributed as dist

from trainkit.compat.lightning.rank_zero import (
    rank,
    rank_zero_debug,
    rank_zero_deprecation,
    rank_zero_info,
    rank_zero_only,
    rank_zero_warn,
)


@pytest.fixture
def rank_three(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RANK", "3")
    monkeypatch.setenv("WORLD_SIZE", "4")


@rank_zero_only
def work(value: int) -> int:
    """Do something."""
    return value + 1


def test_rank_zero_calls() -> None:
    assert (rank(), work(1), work.__doc__) == (0, 2, "Do something.")


@pytest.mark.usefixtures("rank_three")
def test_other_ranks_return_a_default_whenever_the_function_was_decorated() -> None:
    assert (rank(), work(1), rank_zero_only(work, default=7)(1)) == (3, None, 7)


def test_the_process_group_goes_before_the_environment(rank_three: None, tmp_path: Path) -> None:
    dist.init_process_group("gloo", init_method=f"file://{tmp_path}/store", rank=0, world_size=1)
    try:
        assert (rank(), work(1)) == (0, 2)
    finally:
        dist.destroy_process_group()


def test_a_rank_without_a_world_says_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RANK", "3")
    assert rank() == 0


def test_messages_go_to_trainkits_logger(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG, "trainkit"):
        rank_zero_info("loss %s", 1)
        rank_zero_debug("details")
    assert [(record.levelname, record.getMessage()) for record in caplog.records] == [
        ("INFO", "loss 1"),
        ("DEBUG", "details"),
    ]


def test_warnings_point_to_the_caller() -> None:
    with pytest.warns(UserWarning, match="careful") as caught:
        rank_zero_warn("careful")
    with pytest.warns(DeprecationWarning, match="soon gone") as deprecated:
        rank_zero_deprecation("soon gone")
    assert caught[0].filename == deprecated[0].filename == __file__


@pytest.mark.usefixtures("rank_three")
def test_other_ranks_are_silent(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG), warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        rank_zero_info("loss")
        rank_zero_warn("careful")
    assert not caplog.records and not caught
