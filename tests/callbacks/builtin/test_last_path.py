"""Where a run keeps its newest state."""

from __future__ import annotations

import pytest

from trainkit.callbacks import CSVLogger, ModelCheckpoint
from trainkit.callbacks.builtin.last_path import claim_path, folder_of
from trainkit.errors import FolderInUseError
from trainkit.testing import quiet_trainer


def trainer_of(folder, *callbacks, **arguments):
    return quiet_trainer(default_root_dir=folder, enable_checkpointing=True, callbacks=[*callbacks], **arguments)


def names(folder, trainer, *own, times=1):
    claims = [claim_path(trainer, own) for _ in range(times)]
    for _, claim in claims:
        claim.release()
    return [path.removeprefix(f"{folder}/") for path, _ in claims]


def test_the_folder_is_that_of_the_logger_or_of_checkpoints(tmp_path):
    assert folder_of(trainer_of(tmp_path)) == str(tmp_path / "checkpoints")
    logger = CSVLogger(tmp_path, version=3)
    assert folder_of(trainer_of(tmp_path, logger=logger)) == str(tmp_path / "trainkit_logs/version_3")


@pytest.mark.parametrize(
    ("arguments", "folder"),
    [
        ({"dirpath": "memory://runs/a"}, "memory://runs/a"),
        ({"dirpath": "own", "save_last": True}, "own"),
        ({"dirpath": "own", "save_last": True, "save_weights_only": True}, "checkpoints"),
        ({"dirpath": "own", "save_last": "link"}, "checkpoints"),
        ({"dirpath": "checkpoints", "save_last": "link"}, ""),
        ({"dirpath": "own"}, "checkpoints"),
    ],
)
def test_a_callback_that_keeps_its_own_last_decides_where(tmp_path, monkeypatch, arguments, folder):
    monkeypatch.chdir(tmp_path)
    expected = folder if "://" in folder else str(tmp_path / folder).rstrip("/")
    assert folder_of(trainer_of(tmp_path, ModelCheckpoint(**arguments))) == expected


def test_a_name_is_that_of_one_run_while_it_lives(tmp_path):
    assert names(tmp_path, trainer_of(tmp_path), times=3) == [
        "checkpoints/last.ckpt",
        "checkpoints/last-v1.ckpt",
        "checkpoints/last-v2.ckpt",
    ]
    assert not list((tmp_path / "checkpoints").iterdir()), "what was claimed is as it was"


def test_a_file_of_another_run_is_left_alone_and_an_own_one_is_used(tmp_path):
    file = tmp_path / "checkpoints/last.ckpt"
    file.parent.mkdir()
    file.touch()
    assert names(tmp_path, trainer_of(tmp_path)) == ["checkpoints/last-v1.ckpt"]
    assert names(tmp_path, trainer_of(tmp_path), str(file)) == ["checkpoints/last.ckpt"]


def test_an_own_file_that_a_live_run_has_is_an_error(tmp_path):
    path, claim = claim_path(trainer_of(tmp_path), ())
    with pytest.raises(FolderInUseError, match="checkpoints"):
        claim_path(trainer_of(tmp_path), (path,))
    claim.release()


def test_the_name_of_what_a_callback_ranks_is_not_free(tmp_path):
    ranked = ModelCheckpoint(tmp_path / "checkpoints", filename="last")
    assert names(tmp_path, trainer_of(tmp_path, ranked)) == ["checkpoints/last-v1.ckpt"]
