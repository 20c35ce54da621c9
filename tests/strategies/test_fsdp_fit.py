"""Whole fits with fsdp on two processes against the same in one."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.testing import assert_close

import tests.strategies.fsdp_checkpoints as checkpoints
import tests.strategies.fsdp_fit as script
import tests.strategies.fsdp_other_mesh as other_mesh
import tests.strategies.fsdp_tensor_parallel as parallel
from tests.strategies.started import Ranks
from trainkit.storage.files import read_checkpoint

pytestmark = [pytest.mark.distributed, pytest.mark.slow]

PARTS = ("weights", "logged", "predicted", "outside")
RUNS = [*script.programs(), *(f"{name}, {kind}" for name in script.VARIANTS for kind in ("plain", "manual"))]


def started(file: str, folder: Path, *arguments: object, name: str, world_size: int = 2) -> list[dict[str, Any]]:
    """Run a script, and return what each rank has found."""
    ended = Ranks(file, folder, *arguments, world_size=world_size).ended()
    assert [each.code for each in ended] == [0] * world_size, "\n".join(each.text[-3000:] for each in ended)
    return [torch.load(folder / f"{name}_{rank}.pt", weights_only=False) for rank in range(world_size)]


@pytest.fixture(scope="module")
def two_ranks(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    return started(script.__file__, tmp_path_factory.mktemp("fits"), name="fsdp")


@pytest.fixture(scope="module")
def one_process() -> dict[str, Any]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return {name: run("auto") for name, run in script.programs().items()}


@pytest.mark.parametrize("run", RUNS)
def test_two_processes_end_where_one_does(two_ranks: list[dict[str, Any]], one_process: dict[str, Any], run: str):
    expected = one_process[run.rpartition(", ")[2]]
    for rank in two_ranks:
        assert not isinstance(rank[run], str), rank[run]
        for part in PARTS:
            assert_close(rank[run][part], expected[part], rtol=0, atol=1e-9)
        assert rank[run]["are_sharded"]
        # Seven rows are four on one rank and three on the other.
        assert rank[run]["held"] == 1 if "copies" in run else 0.4 < rank[run]["held"] < 0.6


@pytest.mark.parametrize("optimizer", script.refused())
def test_an_optimizer_that_fails_on_parts_is_refused_on_each_rank(two_ranks: list[dict[str, Any]], optimizer: str):
    for rank in two_ranks:
        assert rank[optimizer].startswith("OptimizerError: ")
        assert "cannot update parameters that are sharded" in rank[optimizer]


@pytest.mark.parametrize("run", [name for name, _, _ in script.HALVES])
def test_a_precision_means_what_it_means_with_ddp(two_ranks: list[dict[str, Any]], run: str):
    for rank in two_ranks:
        sharded, copied = rank[f"{run} fsdp"], rank[f"{run} ddp"]
        assert not isinstance(sharded, str), sharded
        assert sharded["logged"] == pytest.approx(copied["logged"], abs=1e-2)


def test_a_module_on_the_meta_device_gets_values_that_ranks_agree_on(two_ranks: list[dict[str, Any]]):
    first, second = (rank["meta"] for rank in two_ranks)
    assert_close(first["weights"], second["weights"], rtol=0, atol=0)
    assert first["weights"]["first.weight"].abs().sum() > 0
    assert first["weights"]["blocks.0.scale"].mean() == pytest.approx(1, abs=0.1)


@pytest.mark.parametrize("world_size", [2, 4])
def test_ranks_that_compute_a_batch_together_end_where_one_process_does(tmp_path: Path, world_size: int):
    ranks = started(parallel.__file__, tmp_path, 2, name="tp", world_size=world_size)
    expected = parallel.programs(lambda: "auto")
    for rank in ranks:
        for name, found in rank.items():
            assert not isinstance(found, str), found
            for part in PARTS:
                assert_close(found[part], expected[name][part], rtol=0, atol=1e-9)
            assert found["held"] < 0.7


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[dict[str, Any]]]:
    folder = tmp_path_factory.mktemp("checkpoints")
    return folder, started(checkpoints.__file__, folder, "save", name="save")


@pytest.mark.parametrize("kind", ["Net", "Manual"])
@pytest.mark.parametrize("strategy", checkpoints.STRATEGIES)
@pytest.mark.parametrize(
    ("source", "after"),
    [
        ("ddp", checkpoints.IN_GROUP),
        ("fsdp", checkpoints.IN_GROUP),
        ("fsdp", checkpoints.IN_EPOCH),
        ("fsdp", checkpoints.AT_END),
        ("root", checkpoints.IN_GROUP),
    ],
)
def test_a_file_of_any_strategy_goes_on_with_any(
    saved: tuple[Path, list[dict[str, Any]]], kind: str, strategy: str, source: str, after: int
):
    _, ranks = saved
    for rank in ranks:
        gone_on = rank[f"{kind} {strategy} from {source} after {after}"]
        assert not isinstance(gone_on, str), gone_on
        # Bit for bit where nothing is added up in another order.
        assert_close(gone_on, rank[f"{kind} {strategy}"], rtol=0, atol=0 if strategy == source else 1e-12)


@pytest.mark.parametrize("world_size", [1, 2, 4])
def test_a_file_gives_any_number_of_ranks_its_weights_and_states(
    saved: tuple[Path, list[dict[str, Any]]], world_size: int
):
    folder, _ = saved
    ranks = started(checkpoints.__file__, folder, "load", name="load", world_size=world_size)
    for source in ("ddp", "fsdp"):
        file = read_checkpoint(folder / f"Net_{source}_{checkpoints.AT_END}.ckpt")
        for rank in ranks:
            assert not isinstance(rank[source], str), rank[source]
            assert_close(dict(rank[source]["weights"]), dict(file["current_model_state"]), rtol=0, atol=0)
            assert_close(rank[source]["optimizers"], file["optimizer_states"], rtol=0, atol=0)


MESHES = [(2, 1), (1, 2)]


@pytest.mark.parametrize("before", MESHES)
@pytest.mark.parametrize("after", [*MESHES, (2, 2), None])
def test_a_run_goes_on_with_the_same_batches_on_another_mesh(
    tmp_path: Path, before: tuple[int, int], after: tuple[int, int] | None
):
    def end(folder: Path, mesh: tuple[int, int], *checkpoint: Path) -> dict[str, Any]:
        folder.mkdir()
        ended = Ranks(other_mesh.__file__, folder, *mesh, *checkpoint, world_size=mesh[0] * mesh[1]).ended()
        assert {each.code for each in ended} == {0}, "\n".join(each.text[-3000:] for each in ended)
        return torch.load(folder / "end.pt") | dict(read_checkpoint(folder / "end.ckpt")["state_dict"])

    # The first run saves in an open accumulation group, and goes on.
    expected = end(tmp_path / "whole", before)
    saved = tmp_path / "whole" / "open.ckpt"
    if after is None:
        other_mesh.main(tmp_path, 1, 1, str(saved))
        found = torch.load(tmp_path / "end.pt") | dict(read_checkpoint(tmp_path / "end.ckpt")["state_dict"])
    else:
        found = end(tmp_path / "rest", after, saved)
    assert_close(found, expected, rtol=0, atol=1e-9)
