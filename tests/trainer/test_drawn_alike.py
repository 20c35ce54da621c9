from __future__ import annotations

import os
import subprocess
import sys

import pytest
import torch

from tests.trainer import alike_ranks as script
from trainkit.seed import isolate_rng, rng_state, same_rng_state
from trainkit.strategies import SingleDevice
from trainkit.trainer.drawn_alike import drawn_alike


@pytest.fixture(scope="module")
def ranks(tmp_path_factory):
    folder = tmp_path_factory.mktemp("ranks")
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join([".", *sys.path])}
    subprocess.run([*torchrun, script.__file__, folder], env=environment, check=True, timeout=120)
    return [torch.load(folder / f"rank_{rank}.pt") for rank in range(2)]


@pytest.mark.distributed
@pytest.mark.parametrize("kind", ["unseeded", "seeded", "seeded within"])
def test_all_ranks_split_the_data_alike(ranks, kind):
    first, second = (rank[kind] for rank in ranks)
    assert first["data"] == second["data"]
    assert first["module"] == second["module"]


@pytest.mark.distributed
def test_ranks_go_on_with_their_own_random_numbers(ranks):
    # Also where all are seeded alike: otherwise a global batch would have the noise of a part of it.
    for kind in ("unseeded", "seeded", "seeded within"):
        assert all(one != other for one, other in zip(*(rank[kind]["training"] for rank in ranks), strict=True))


@pytest.mark.distributed
def test_a_split_that_each_rank_draws_for_itself_ahead_of_the_run_is_told_by_the_first(ranks):
    first, second = (rank["told in validate"] for rank in ranks)
    assert [told.split(":")[0] for told in first] == ["val_dataloader"]
    assert second == []


@pytest.mark.distributed
def test_one_that_is_drawn_when_loaders_are_made_is_the_same_split_on_all_ranks(ranks):
    assert [rank["told in fit"] for rank in ranks] == [[], []]


def test_one_process_draws_as_it_would():
    with isolate_rng():
        before = rng_state()
        with drawn_alike(SingleDevice()):
            assert same_rng_state(rng_state(), before)
            torch.rand(())
        assert not same_rng_state(rng_state(), before)
