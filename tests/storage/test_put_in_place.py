from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from trainkit.storage import put_in_place as module
from trainkit.storage.put_in_place import delete, exchange, is_folder, put_in_place, remove_folder
from trainkit.storage.sharded.names import MANIFEST, STATE
from trainkit.storage.temporary_names import PATTERN, temporary_for

KINDS = ("nothing", "file", "link", "folder")


def make(kind: str, path: Path, content: str) -> None:
    if kind == "file":
        path.write_text(content)
    elif kind == "link":
        (path.parent / f"target-{content}").write_text(content)
        path.symlink_to(f"target-{content}")
    elif kind == "folder":
        path.mkdir()
        for name in (STATE, MANIFEST, "__0_0.distcp"):
            (path / name).write_text(content)


def content_of(path: Path) -> str:
    return ((path / STATE) if path.is_dir() else path).read_text()


@pytest.fixture(params=[True, False], ids=["exchanges", "renames in turns"])
def exchanges(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> bool:
    if request.param and module._renameat2() is None:
        pytest.skip("this system cannot exchange names")
    if not request.param:
        monkeypatch.setattr(module, "_renameat2", lambda: None)
    return bool(request.param)


@pytest.mark.parametrize("new", KINDS[1:])
@pytest.mark.parametrize("old", KINDS)
def test_whatever_has_the_name_is_replaced_by_whatever_is_new(
    tmp_path: Path, exchanges: bool, old: str, new: str
) -> None:
    path, temporary = tmp_path / "a.ckpt", temporary_for(tmp_path / "a.ckpt")
    make(old, path, "old")
    make(new, temporary, "new")
    put_in_place(temporary, path)
    assert content_of(path) == "new"
    assert [name for name in os.listdir(tmp_path) if not name.startswith("target")] == ["a.ckpt"]


def test_each_step_leaves_a_whole_one_that_a_search_finds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without an exchange, a kill behind any rename leaves the old or the new one under a name of a checkpoint."""
    monkeypatch.setattr(module, "_renameat2", lambda: None)
    real, seen = os.rename, []

    def looked_at(*arguments: Any) -> None:
        real(*arguments)
        seen.append(sorted(content_of(path) for path in tmp_path.glob("*.ckpt")))

    path, temporary = tmp_path / "a.ckpt", temporary_for(tmp_path / "a.ckpt")
    make("folder", path, "old")
    make("folder", temporary, "new")
    monkeypatch.setattr(os, "rename", looked_at)
    put_in_place(temporary, path)
    assert seen == [["new", "old"], ["new"], ["new"]]


def test_what_a_kill_in_between_has_left_goes_with_the_next(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_renameat2", lambda: None)
    path, temporary = tmp_path / "a.ckpt", temporary_for(tmp_path / "a.ckpt")
    make("folder", path, "old")
    make("folder", tmp_path / "a~0123abcd.ckpt", "between")
    make("folder", tmp_path / "a~b.ckpt", "of the user")
    make("folder", temporary, "new")
    put_in_place(temporary, path)
    assert sorted(os.listdir(tmp_path)) == ["a.ckpt", "a~b.ckpt"]


@pytest.mark.parametrize("failing", [1, 2, 3])
def test_a_rename_that_fails_leaves_the_old_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failing: int) -> None:
    monkeypatch.setattr(module, "_renameat2", lambda: None)
    path, temporary = tmp_path / "a.ckpt", temporary_for(tmp_path / "a.ckpt")
    make("folder", path, "old")
    make("folder", temporary, "new")
    real, count = os.rename, [0]

    def fails(*arguments: Any) -> None:
        count[0] += 1
        if count[0] == failing:
            raise OSError(5, "Input/output error")
        real(*arguments)

    monkeypatch.setattr(os, "rename", fails)
    with pytest.raises(OSError, match="Input/output"):
        put_in_place(temporary, path)
    assert content_of(path) == "old"
    assert [name for name in os.listdir(tmp_path) if not PATTERN.fullmatch(name)] == ["a.ckpt"]


@pytest.mark.parametrize("content", [{"notes": "mine"}, {STATE: "x", "notes": "mine"}, {}])
def test_a_folder_with_other_files_is_neither_replaced_nor_deleted(tmp_path: Path, content: dict[str, str]) -> None:
    path, temporary = tmp_path / "a.ckpt", temporary_for(tmp_path / "a.ckpt")
    path.mkdir()
    for name, text in content.items():
        (path / name).write_text(text)
    make("folder", temporary, "new")
    with pytest.raises(OSError, match="is a folder, and no checkpoint"):
        put_in_place(temporary, path)
    with pytest.raises(OSError, match="is a folder, and no checkpoint"):
        remove_folder(path)
    assert sorted(os.listdir(path)) == sorted(content)


def test_a_checkpoint_is_gone_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make("folder", tmp_path / "a.ckpt", "old")
    monkeypatch.setattr(module, "delete", lambda path: None)  # as if it were killed there
    remove_folder(tmp_path / "a.ckpt")
    (left,) = os.listdir(tmp_path)
    assert PATTERN.fullmatch(left)
    assert len(os.listdir(tmp_path / left)) == 3


def test_the_file_with_the_lock_goes_last(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make("folder", tmp_path / "a", "old")
    real, gone = Path.unlink, list[str]()

    def noted(path: Path, missing_ok: bool = False) -> None:
        gone.append(path.name)
        real(path, missing_ok=missing_ok)

    monkeypatch.setattr(Path, "unlink", noted)
    delete(tmp_path / "a")
    assert len(gone) == 3
    assert gone[-1] == STATE
    assert not (tmp_path / "a").exists()


def test_an_exchange_of_what_is_not_there_is_an_error(tmp_path: Path) -> None:
    if module._renameat2() is None:
        pytest.skip("this system cannot exchange names")
    (tmp_path / "a").write_text("a")
    with pytest.raises(FileNotFoundError):
        exchange(tmp_path / "a", tmp_path / "b")


def test_a_link_to_a_folder_is_none(tmp_path: Path) -> None:
    (tmp_path / "b").mkdir()
    (tmp_path / "a").symlink_to("b")
    assert is_folder(tmp_path / "b")
    assert not is_folder(tmp_path / "a")
