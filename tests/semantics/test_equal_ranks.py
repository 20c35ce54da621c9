"""Two ranks update alike or say that they do not, draw apart what is random and alike what is shared."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.semantics import equal_ranks as script

pytestmark = [pytest.mark.distributed, pytest.mark.slow]


@pytest.fixture(scope="module")
def ranks(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    folder: Path = tmp_path_factory.mktemp("ranks")
    alone = script.trainer(max_epochs=1, strategy="auto")
    alone.fit(script.Watched(), script.loader(4))
    alone.save_checkpoint(folder / "alone.ckpt")
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join([".", *sys.path])}
    finished = subprocess.run(
        [*torchrun, script.__file__, str(folder)], env=environment, capture_output=True, text=True, timeout=150
    )
    assert finished.returncode == 0, finished.stderr[-5000:]
    return [torch.load(folder / f"rank_{rank}.pt") for rank in range(2)]


def test_a_rate_that_differs_ends_all_ranks_at_the_end_of_the_epoch(ranks: list[dict[str, Any]]):
    for rank in ranks:
        assert "at the end of epoch 0" in rank["other rate"]
        assert "'lr' of SGD, group 0 (0.1 on rank 0, 0.05 on rank 1)" in rank["other rate"]


def test_so_does_an_update_that_differs(ranks: list[dict[str, Any]]):
    for rank in ranks:
        assert "weights in 'layer.weight' (on rank 1 others than on rank 0)" in rank["other update"]


def test_a_schedule_by_a_metric_of_each_rank_goes_by_that_of_rank_0(ranks: list[dict[str, Any]]):
    assert [rank["plateau"] for rank in ranks] == [0.1, 0.1]


def test_a_seed_shuffles_all_ranks_alike_and_lets_each_draw_its_own_numbers(ranks: list[dict[str, Any]]):
    first, second = (rank["draws"] for rank in ranks)
    for own in (first, second):
        assert own["one"] == own["again"]
    assert not set(first["one"]["drawn"]) & set(second["one"]["drawn"])
    for way in ("one", "with workers"):
        augmented = [{row[1] for row in own[way]["seen"]} for own in (first, second)]
        assert not augmented[0] & augmented[1]
        epoch = [own[way]["seen"][: script.SAMPLES // 2] for own in (first, second)]
        assert sorted(int(row[0]) for part in epoch for row in part) == list(range(script.SAMPLES))


def test_generators_that_ranks_have_seeded_for_themselves_give_one_order(ranks: list[dict[str, Any]]):
    half = script.SAMPLES // 2
    for epoch in (slice(0, half), slice(half, None)):
        assert sorted(ranks[0]["own generator"][epoch] + ranks[1]["own generator"][epoch]) == list(
            range(script.SAMPLES)
        )


def test_what_is_validated_is_what_is_saved(ranks: list[dict[str, Any]]):
    for rank in ranks:
        assert rank["buffers"]["validated"] == [ranks[0]["buffers"]["saved"]] * len(rank["buffers"]["validated"])


def test_a_run_that_goes_on_has_the_buffers_of_each_rank(ranks: list[dict[str, Any]]):
    saved = [rank["buffers"]["when saved"] for rank in ranks]
    assert saved[0] != saved[1]
    assert [rank["buffers"]["when resumed"] for rank in ranks] == saved


def test_in_the_middle_of_a_group_it_goes_on_bit_for_bit(ranks: list[dict[str, Any]]):
    for rank in ranks:
        whole, rest = rank["within a group"]
        assert whole == rest == ranks[0]["within a group"][0]


def test_ranks_that_go_on_from_fewer_draw_their_own_numbers(ranks: list[dict[str, Any]]):
    assert not set(ranks[0]["going on"]) & set(ranks[1]["going on"])


def test_a_stream_that_nobody_deals_is_told_by_the_first(ranks: list[dict[str, Any]]):
    assert [len(rank["stream"]) for rank in ranks] == [1, 0]
    assert "of Stream nothing is dealt" in ranks[0]["stream"][0]


def test_one_that_is_dealt_gives_each_sample_once(ranks: list[dict[str, Any]]):
    assert [rank["sharded"] for rank in ranks] == [list(range(0, 16, 2)), list(range(1, 16, 2))]


def test_parts_without_a_whole_batch_are_told(ranks: list[dict[str, Any]]):
    for rank in ranks:
        assert "the part of each of 2 ranks of train_dataloader is empty" in rank["too few"]


def test_a_share_of_a_validation_is_one_of_the_whole(ranks: list[dict[str, Any]]):
    # 3 of 6 batches, which are 9 samples: 2 batches of each rank.
    assert [rank["validated batches"] for rank in ranks] == [2, 2]


def test_predictions_are_those_of_one_process_on_every_rank(ranks: list[dict[str, Any]]):
    expected = [list(range(first, min(first + 3, 16))) for first in range(0, 16, 3)]
    for rank in ranks:
        assert rank["predicted"] == expected
        assert rank["first predicted"] == expected[:2]
