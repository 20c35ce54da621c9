from __future__ import annotations

import os
import shutil
import subprocess
import time
from pathlib import Path

import pytest

from trainkit.record import repository
from trainkit.record.repository import repository_of


def git(folder: Path, *arguments: str) -> str:
    identity = ("-c", "user.name=me", "-c", "user.email=me@example.com", "-c", "commit.gpgsign=false")
    done = subprocess.run(["git", "-C", folder, *identity, *arguments], check=True, capture_output=True, text=True)
    return done.stdout.strip()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder within a repository that has one commit."""
    if shutil.which("git") is None:
        pytest.skip("git is not installed")
    within = tmp_path / "code" / "deep"
    within.mkdir(parents=True)
    git(tmp_path / "code", "init")
    (within / "train.py").write_text("lr = 1\n")
    git(tmp_path / "code", "add", ".")
    git(tmp_path / "code", "commit", "-m", "first")
    return within


def test_a_repository_without_changes(folder: Path) -> None:
    found = repository_of(folder)
    assert found is not None
    assert found.commit == git(folder, "rev-parse", "HEAD")
    assert (found.patch, found.is_cut, found.left_out, found.untracked) == (b"", False, [], [])


def test_what_is_not_committed_can_be_applied_to_the_commit(folder: Path) -> None:
    (folder / "train.py").write_text("lr = 2\n")
    (folder / "new.py").write_text("")
    (folder.parent / "runs").mkdir()
    (folder.parent / "runs" / "a.txt").write_text("")
    found = repository_of(folder)
    assert found is not None
    assert found.untracked == ["deep/new.py", "runs/"]
    git(folder, "checkout", ".")
    subprocess.run(["git", "-C", folder.parent, "apply"], input=found.patch, check=True)
    assert (folder / "train.py").read_text() == "lr = 2\n"


def test_staged_changes_count(folder: Path) -> None:
    (folder / "train.py").write_text("lr = 2\n")
    git(folder, "add", ".")
    found = repository_of(folder)
    assert found is not None and b"+lr = 2" in found.patch


HOSTILE = {
    "diff.noprefix": "true",
    "diff.mnemonicPrefix": "true",
    "diff.srcPrefix": "x/",
    "diff.relative": "true",
    "diff.context": "0",
    "diff.renames": "copies",
    "diff.submodule": "log",
    "diff.orderFile": "gone",
    "diff.wordRegex": ".",
    "diff.colorMoved": "zebra",
    "diff.suppressBlankEmpty": "true",
    "color.ui": "always",
    "core.quotePath": "false",
    "core.abbrev": "4",
    "status.showUntrackedFiles": "no",
    "status.relativePaths": "true",
}


def can_be_applied(patch: bytes, folder: Path, tmp_path: Path) -> bool:
    """Return whether a clean checkout takes the patch."""
    git(tmp_path, "clone", "--quiet", str(folder.parent), "clean")
    done = subprocess.run(["git", "-C", tmp_path / "clean", "apply", "--check"], input=patch, capture_output=True)
    return done.returncode == 0


@pytest.mark.parametrize("keys", [*((key,) for key in HOSTILE), tuple(HOSTILE)], ids="+".join)
def test_no_setting_of_git_spoils_the_patch(folder: Path, tmp_path: Path, keys: tuple[str, ...]) -> None:
    (folder.parent / "top.txt").write_text("a\n\nb\n" * 20)
    (folder / "moved.py").write_text("x\n" * 20)
    git(folder.parent, "add", ".")
    git(folder, "commit", "-m", "second")
    for key in keys:
        git(folder, "config", key, HOSTILE[key])
    (folder / "train.py").write_text("lr = 2\n")
    (folder.parent / "top.txt").write_text("a\n\nb\n" * 10 + "c\n" + "a\n\nb\n" * 10)
    (folder / "ümläut.bin").write_bytes(bytes(range(256)))
    git(folder, "mv", "moved.py", "there.py")
    git(folder, "add", ".")
    (folder / "new.py").write_text("")
    found = repository_of(folder)
    assert found is not None and found.untracked == ["deep/new.py"]
    assert b"top.txt" in found.patch and can_be_applied(found.patch, folder, tmp_path)


def test_another_commit_of_a_submodule_is_in_the_patch_and_what_is_changed_there_is_not(
    folder: Path, tmp_path: Path
) -> None:
    git(folder, "-c", "protocol.file.allow=always", "submodule", "add", str(folder.parent), "other")
    git(folder, "commit", "-m", "second")
    git(folder, "config", "diff.submodule", "log")
    git(folder / "other", "commit", "--allow-empty", "-m", "newer")
    (folder / "other" / "deep" / "train.py").write_text("lr = 3\n")
    found = repository_of(folder)
    newest = git(folder / "other", "rev-parse", "HEAD")
    assert found is not None and f"+Subproject commit {newest}\n".encode() in found.patch
    assert b"lr = 3" not in found.patch and can_be_applied(found.patch, folder, tmp_path)


@pytest.mark.parametrize("is_large", [False, True])
def test_a_binary_file_is_in_the_patch_or_named(
    folder: Path, tmp_path: Path, is_large: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(repository, "LONGEST_PATCH", 10_000)
    (folder / "train.py").write_text("lr = 2\n")
    (folder / "[a] *.bin").write_bytes(b"\0" + os.urandom(20_000 if is_large else 200))
    git(folder, "add", ".")
    found = repository_of(folder)
    assert found is not None and not found.is_cut and b"+lr = 2" in found.patch
    assert found.left_out == (["deep/[a] *.bin"] if is_large else [])
    assert (b"GIT binary patch" in found.patch) is not is_large
    assert can_be_applied(found.patch, folder, tmp_path)


def test_variables_of_git_name_no_other_repository(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "other").mkdir()
    git(tmp_path / "other", "init")
    before = repository_of(folder)
    for name in ("GIT_DIR", "GIT_INDEX_FILE", "GIT_OBJECT_DIRECTORY", "GIT_COMMON_DIR"):
        monkeypatch.setenv(name, str(tmp_path / "other" / ".git"))
    monkeypatch.setenv("GIT_WORK_TREE", str(tmp_path / "other"))
    assert before is not None and repository_of(folder) == before


def test_a_long_patch_is_cut(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(repository, "LONGEST_PATCH", 100)
    (folder / "train.py").write_text("x\n" * 1000)
    found = repository_of(folder)
    assert found is not None and found.is_cut and len(found.patch) == 100


def test_no_program_that_the_repository_names_is_run(folder: Path) -> None:
    for key in ("core.fsmonitor", "diff.external", "diff.mine.textconv", "diff.mine.command"):
        git(folder, "config", key, f"touch {folder / 'ran'}; false")
    (folder / ".gitattributes").write_text("*.py diff=mine\n")
    (folder / "train.py").write_text("lr = 2\n")
    assert repository_of(folder) is not None
    assert not (folder / "ran").exists()


def test_without_a_repository_a_commit_or_git_nothing_is_known(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path))
    (tmp_path / "bare").mkdir()
    assert repository_of(tmp_path / "bare") is None
    git(tmp_path / "bare", "init")
    assert repository_of(tmp_path / "bare") is None
    assert repository_of(tmp_path / "gone") is None
    monkeypatch.setenv("PATH", str(tmp_path))
    assert repository_of(folder) is None


def test_a_git_that_hangs_is_given_up(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # It has started another program, as it does for filters.
    script = (
        f"#!/bin/sh\nsleep 1000 &\necho $! > {tmp_path / 'filter'}\necho $$ > {tmp_path / 'pid'}\nexec sleep 1000\n"
    )
    (tmp_path / "git").write_text(script)
    (tmp_path / "git").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    monkeypatch.setattr(repository, "TIMEOUT_S", 1.0)
    assert repository_of(folder) is None
    assert not is_running(int((tmp_path / "pid").read_text()))
    # It is nobody's child any more, and whoever takes it in may be slow to see that it is dead.
    deadline = time.monotonic() + 20
    while is_running(int((tmp_path / "filter").read_text())):
        assert time.monotonic() < deadline
        time.sleep(0.01)


def is_running(process: int) -> bool:
    state = Path(f"/proc/{process}/stat")
    if state.exists():
        return state.read_text().rpartition(")")[2].split()[0] != "Z"
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    return True
