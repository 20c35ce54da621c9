"""No string in a checkpoint has a file deleted, or replaced, that the run has not written."""

from __future__ import annotations

import os
import random
from pathlib import Path
from typing import Any

import pytest

from tests.checkpoint_fuzz.mutations import in_child
from trainkit.callbacks import ModelCheckpoint
from trainkit.callbacks.model_checkpoint.own_files import OwnFiles
from trainkit.storage.files import read_checkpoint, write_checkpoint
from trainkit.testing import TinyData, TinyModule, quiet_trainer

MARK = "0" * 32


def fit(root: Path, *, epochs: int, ckpt_path: Path | None = None, **arguments: Any) -> None:
    saves = ModelCheckpoint(root / "own", save_last=True, **arguments)
    trainer = quiet_trainer(
        max_epochs=epochs, default_root_dir=root, enable_checkpointing=True, logger=False, callbacks=[saves]
    )
    trainer.fit(TinyModule(), TinyData(2), ckpt_path=ckpt_path)


def write(path: Path, mark: str = MARK) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    write_checkpoint({"state_dict": {}, "trainkit": {"format": 1, "version": "x", "mark": mark}}, path)
    return path


def test_own_is_what_this_process_wrote_or_what_has_the_mark(tmp_path: Path) -> None:
    own = OwnFiles(".ckpt")
    own.begin(str(tmp_path / "own"), MARK)
    assert own.has(str(write(tmp_path / "own" / "a.ckpt")))
    other = str(write(tmp_path / "own" / "b.ckpt", mark="1" * 32))
    assert not own.has(other)
    own.note(other)
    assert own.has(other)


@pytest.mark.parametrize("path", ["other/a.ckpt", "own/below/a.ckpt", "own-2/a.ckpt", "own/a.pt", "a.ckpt"])
def test_what_lies_elsewhere_or_is_no_checkpoint_is_not(tmp_path: Path, path: str) -> None:
    own = OwnFiles(".ckpt")
    own.begin(str(tmp_path / "own"), MARK)
    write(tmp_path / path)
    assert not own.has(str(tmp_path / path))
    assert not own.has(str(tmp_path / "own" / ".." / path))


def test_a_folder_that_a_template_names_is_one_that_is_written_into(tmp_path: Path) -> None:
    own = OwnFiles(".ckpt")
    own.begin(str(tmp_path), MARK)
    own.note(str(tmp_path / "below" / "a.ckpt"))
    assert own.has(str(write(tmp_path / "below" / "b.ckpt")))


def test_without_a_mark_only_what_this_process_wrote_is(tmp_path: Path) -> None:
    own = OwnFiles(".ckpt")
    own.begin(str(tmp_path), "")
    assert not own.has(str(write(tmp_path / "a.ckpt", mark="")))


@pytest.mark.parametrize(
    "path", [None, 3, b"a.ckpt", "", "\0.ckpt", "\ud800/x.ckpt", "reference://x.ckpt", "a::b.ckpt"]
)
def test_what_is_no_path_is_nobodys(path: object) -> None:
    own = OwnFiles(".ckpt")
    own.begin("s3://bucket", MARK)
    assert not own.has(path)


PLACES = ["obsolete", "best_k_models", "best_model_path", "last_model_path", "kth_best_model_path", "dirpath"]
STRINGS = [
    *("{root}/other/run.ckpt", "{root}/own/../other/run.ckpt", "{root}/own/link/run.ckpt", "{root}/own/theirs.ckpt"),
    *(
        "{root}/other/notes.txt",
        "{root}/own",
        "..",
        "",
        "reference://x.ckpt",
        "ftp://127.0.0.1:9/x.ckpt",
        "\0",
        "\ud8ab",
    ),
]


@pytest.fixture(scope="module")
def valid(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    root = tmp_path_factory.mktemp("valid")
    fit(root, epochs=1)
    return root, read_checkpoint(root / "own" / "last.ckpt")


@pytest.mark.parametrize("seed", range(24))
def test_no_string_deletes_connects_or_imports(tmp_path: Path, valid: tuple[Path, dict[str, Any]], seed: int) -> None:
    chance = random.Random(seed)
    # What a forged file says of others lies outside of its run's folder, which is watched.
    run = tmp_path / "run"
    theirs = [write(tmp_path / "other" / "run.ckpt"), write(run / "own" / "theirs.ckpt", mark="1" * 32)]
    (tmp_path / "other" / "notes.txt").touch()
    (run / "own" / "link").symlink_to(tmp_path / "other")
    before = {path: path.read_bytes() for path in theirs}
    forged = _forged(valid[1], chance, run)
    write_checkpoint(forged, run / "a.ckpt")
    code, told = in_child(lambda: fit(run, epochs=3, ckpt_path=run / "a.ckpt"), run)
    assert (code, told) == (0, [])
    assert {path: path.read_bytes() for path in theirs} == before
    assert (tmp_path / "other" / "notes.txt").exists()


def _forged(checkpoint: dict[str, Any], chance: random.Random, run: Path) -> dict[str, Any]:
    (key,) = (key for key in checkpoint["callbacks"] if key.startswith("ModelCheckpoint"))
    state = dict(checkpoint["callbacks"][key]) | {"dirpath": str(run / "own")}
    for place in chance.sample(PLACES, 4):
        strings = [text.replace("{root}/other", f"{run.parent}/other").format(root=run) for text in STRINGS]
        drawn = chance.sample(strings, 6)
        lists = {"obsolete": drawn, "best_k_models": dict.fromkeys(drawn, 1.0)}
        if place != "dirpath" or chance.random() < 0.3:
            state[place] = lists.get(place, drawn[0])
    return {**checkpoint, "callbacks": {**checkpoint["callbacks"], key: state}}


def test_a_run_that_goes_on_deletes_what_the_one_before_was_about_to(tmp_path: Path) -> None:
    fit(tmp_path, epochs=1)
    left = tmp_path / "own" / "left.ckpt"
    os.link(tmp_path / "own" / "last.ckpt", left)
    checkpoint = read_checkpoint(tmp_path / "own" / "last.ckpt")
    (key,) = (key for key in checkpoint["callbacks"] if key.startswith("ModelCheckpoint"))
    checkpoint["callbacks"][key]["obsolete"] = [str(left)]
    write_checkpoint(checkpoint, tmp_path / "own" / "last.ckpt")
    fit(tmp_path, epochs=2, ckpt_path=tmp_path / "own" / "last.ckpt")
    assert not left.exists()
