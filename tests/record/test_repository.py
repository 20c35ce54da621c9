from __future__ import annotations

import os
import shutil
import subprocess
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
    assert (found.patch, found.is_cut, found.untracked) == (b"", False, [])


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


def test_a_long_patch_is_cut(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(repository, "LONGEST_PATCH", 100)
    (folder / "train.py").write_text("x\n" * 1000)
    found = repository_of(folder)
    assert found is not None and found.is_cut and len(found.patch) == 100


def test_no_program_that_the_repository_names_is_run(folder: Path) -> None:
    for key in ("core.fsmonitor", "diff.external"):
        git(folder, "config", key, f"touch {folder / 'ran'}; false")
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
    (tmp_path / "git").write_text(f"#!/bin/sh\necho $$ > {tmp_path / 'pid'}\nexec sleep 1000\n")
    (tmp_path / "git").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    monkeypatch.setattr(repository, "TIMEOUT_S", 1.0)
    assert repository_of(folder) is None
    with pytest.raises(ProcessLookupError):
        os.kill(int((tmp_path / "pid").read_text()), 0)
