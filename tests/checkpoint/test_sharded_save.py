"""Runs whose module is sharded save folders together, and go on from them, on any number of ranks."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import CliRunner

from tests.checkpoint.sharded.fitting import Net
from tests.strategies.started import Ended, Ranks
from trainkit.checkpoint.diff import differences
from trainkit.cli.checkpoint import command
from trainkit.storage.files import read_checkpoint
from trainkit.testing import quiet_trainer

pytestmark = pytest.mark.slow

SCRIPTS = Path(__file__).parent / "sharded"
KEEPING = {"keeps": True, "every_n_train_steps": 2, "enable_checkpointing": True, "max_epochs": 3}


def fit(folder: Path, name: str, world_size: int = 2, **arguments: Any) -> list[Ended]:
    job = json.dumps({"name": name, **arguments}, default=str)
    return [*Ranks(str(SCRIPTS / "fitting.py"), folder, job, world_size=world_size).ended_as_one()]


def state(folder: Path, name: str, when: str) -> Any:
    return torch.load(folder / f"{name}.pt", weights_only=True)[when]


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """``a.ckpt`` of two ranks at the end of an epoch, and ``saved.pt`` with its state."""
    folder = tmp_path_factory.mktemp("saved")
    assert [each.code for each in fit(folder, "saved", max_epochs=1, save_to="a.ckpt")] == [0, 0]
    return folder


@pytest.mark.parametrize(("world_size", "mesh"), [(1, None), (2, None), (3, None), (4, None), (4, (2, 2))], ids=str)
def test_weights_and_optimizer_are_equal_on_any_number_of_ranks(
    saved: Path, tmp_path: Path, world_size: int, mesh: Any
) -> None:
    ended = fit(tmp_path, "loaded", world_size, mesh=mesh, max_epochs=2, ckpt_path=saved / "a.ckpt")
    assert [each.code for each in ended] == [0] * world_size, ended
    assert [*map(str, differences(state(saved, "saved", "ended"), state(tmp_path, "loaded", "begun")))] == []


def test_ddp_goes_on_from_what_was_sharded(saved: Path, tmp_path: Path) -> None:
    ended = fit(tmp_path, "loaded", 2, strategy="ddp", max_epochs=2, ckpt_path=saved / "a.ckpt")
    assert [each.code for each in ended] == [0, 0], ended
    assert [*map(str, differences(state(saved, "saved", "ended"), state(tmp_path, "loaded", "begun")))] == []


def test_one_process_reads_all_of_it(saved: Path, tmp_path: Path) -> None:
    expected = state(saved, "saved", "ended")
    module = Net.load_from_checkpoint(saved / "a.ckpt")
    assert [*differences(dict(module.state_dict()), expected["weights"])] == []
    checkpoint = read_checkpoint(saved / "a.ckpt")
    assert [*differences(checkpoint["optimizer_states"][0], expected["optimizer"])] == []
    weights = checkpoint["state_dict"]
    assert weights["head.weight"] is weights["tied.weight"]
    trainer = quiet_trainer()
    trainer.test(Net(), [(torch.zeros(2, 4), torch.zeros(2, 3))], ckpt_path=saved / "a.ckpt", verbose=False)
    assert "test/loss" in trainer.callback_metrics


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """``end.pt``: what comes of a run that nobody kills."""
    folder = tmp_path_factory.mktemp("undisturbed")
    assert [each.code for each in fit(folder, "end", **KEEPING)] == [0, 0]
    return folder


@pytest.mark.timeout(400)  # two runs, one after the other
@pytest.mark.parametrize(
    ("async_save", "kill_at", "kill_ranks"), [(False, 7, (0, 1)), (True, 9, (0, 1)), (True, 8, (1,)), (True, 12, (0,))]
)
def test_a_run_that_was_killed_in_mid_epoch_ends_like_one_that_was_not(
    undisturbed: Path, tmp_path: Path, async_save: bool, kill_at: int, kill_ranks: tuple[int, ...]
) -> None:
    killed = tmp_path
    first = fit(killed, "first", async_save=async_save, kill_at=kill_at, kill_ranks=kill_ranks, **KEEPING)
    assert all(each.code for each in first), first
    assert [first[rank].code for rank in kill_ranks] == [-9] * len(kill_ranks)
    second = fit(killed, "end", async_save=async_save, ckpt_path="last", **KEEPING)
    assert [each.code for each in second] == [0, 0], second
    assert [*map(str, differences(state(undisturbed, "end", "ended"), state(killed, "end", "ended")))] == []
    resumed, whole = state(killed, "end", "losses"), state(undisturbed, "end", "losses")
    assert 0 < len(resumed) < len(whole), "it began anew"
    assert torch.equal(torch.stack(resumed), torch.stack(whole[-len(resumed) :]))
    # What the killed ones have left is deleted with the next save, and what is there is whole.
    assert [name for name in os.listdir(killed / "kept") if name.endswith(".tmp")] == []
    for path in (killed / "kept").glob("*.ckpt"):
        read_checkpoint(path)


def test_the_command_line_takes_folders(saved: Path, tmp_path: Path) -> None:
    def run(*arguments: Any) -> Any:
        return CliRunner().invoke(command, [*map(str, arguments)])

    path, one = saved / "a.ckpt", tmp_path / "one.ckpt"
    assert run("verify", path).output == f"{path}: whole\n"
    shown = run("show", path, "--tensors").output
    assert "epoch 1, 5 updates" in shown
    assert "state_dict.blocks.0.weight  float32[7, 4]" in shown
    assert run("convert", path, one).exit_code == 0
    assert run("diff", path, one).output == "equal\n"
    assert os.path.isfile(one)
    assert [entry.name for entry in tmp_path.iterdir()] == ["one.ckpt"]
    assert run("convert", path, path / "state.pt").exit_code != 0
    assert run("verify", path).exit_code == 0
    assert run("export", path, tmp_path / "w.safetensors", "--prefix", "blocks.").exit_code == 0


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """What two ranks have found; see ``sharded/on_ranks.py``."""
    folder = tmp_path_factory.mktemp("found")
    ended = [*Ranks(str(SCRIPTS / "on_ranks.py"), folder).ended()]
    assert [each.code for each in ended] == [0, 0], ended
    return [json.loads((folder / f"found-{rank}.json").read_text()) for rank in (0, 1)]


def test_a_hook_may_rename_read_and_drop_tensors(found: list[dict[str, Any]]) -> None:
    assert [each["renamed_in_a_hook"] for each in found] == [[True] * 4] * 2


def test_a_hook_that_computes_with_what_is_not_read_is_told_what_to_do(found: list[dict[str, Any]]) -> None:
    for each in found:
        assert "mul_ was asked of a tensor of a sharded checkpoint" in each["computed_with_in_a_hook"]
        assert "weights[name].read() * 2" in each["computed_with_in_a_hook"]
        assert "in plugin 'Computes'" in each["computed_with_in_a_hook"]


def test_averages_and_open_groups_are_sharded_too(found: list[dict[str, Any]]) -> None:
    expected = {"differ": [], "begun": [1, 3], "gradients": ["SavedTensor"]}
    assert found[0]["averaged_and_accumulating"] == expected


def test_a_damaged_folder_is_passed_over_by_last_and_refused_by_name(found: list[dict[str, Any]]) -> None:
    for rank, each in enumerate(found):
        case = each["overwritten_damaged_and_taken_by_last"]
        assert case["from"] == "epoch=1-step=10.ckpt"
        assert len(case["warned"]) == (2 if rank == 0 else 0)
        assert "last.ckpt is damaged: __1_0.distcp in it does not match its digest" in case["named"]
    assert [name for name in found[0]["overwritten_damaged_and_taken_by_last"]["names"] if name[0] != "."] == [
        *("epoch=0-step=5.ckpt", "epoch=1-step=10.ckpt", "epoch=2-step=15.ckpt", "last.ckpt")
    ]


def test_a_full_disk_on_one_rank_is_an_error_on_all_and_leaves_the_old_one(found: list[dict[str, Any]]) -> None:
    for each in found:
        case = each["a_disk_is_full_on_one_rank"]
        assert case["error"].startswith("CheckpointWriteError: on rank 1: could not write")
        assert "No space left on device (ENOSPC)" in case["error"]
        assert case["untouched"]
        assert case["names"] == ["a.ckpt"]


def test_ranks_that_do_not_share_a_file_system_are_told_so(found: list[dict[str, Any]]) -> None:
    for each in found:
        assert "rank 1 does not see the folder that rank 0 has made" in each["ranks_have_other_disks"]["error"]
    assert found[0]["ranks_have_other_disks"]["names"] == []


def test_urls_and_folders_of_the_user_are_refused(found: list[dict[str, Any]]) -> None:
    for each in found:
        assert "CheckpointWriteError: could not write memory://x/a.ckpt: a sharded" in each["urls_are_refused"]
        case = each["a_folder_of_the_user_is_left_alone"]
        assert "a.ckpt is a folder, and no checkpoint: notes is in it" in case["error"]
        assert (case["notes"], case["names"]) == ("mine", ["a.ckpt"])
