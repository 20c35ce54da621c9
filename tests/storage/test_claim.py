"""A folder belongs to one run at a time, and to nobody when that run is dead."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys

import pytest

from trainkit.callbacks import CSVLogger, ModelCheckpoint
from trainkit.errors import FolderInUseError
from trainkit.storage.claim import LOCK, FolderClaim
from trainkit.testing import TinyData, TinyModule, quiet_trainer

fcntl = pytest.importorskip("fcntl")

OTHER = """
import sys
from trainkit.storage.claim import FolderClaim
claim = FolderClaim(sys.argv[1])
print("claimed", flush=True)
sys.stdin.readline()
claim.release()
"""


@pytest.fixture
def other(tmp_path):
    """Another process, which has claimed ``tmp_path / "run"`` until it gets a line."""
    process = subprocess.Popen(
        [sys.executable, "-c", OTHER, tmp_path / "run"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout.readline() == "claimed\n"
    yield process
    process.kill()
    process.communicate()


def in_child(function):
    """Return the exit code of a forked process that calls ``function``: 0 if it raises nothing, 1 if it does."""
    child = os.fork()
    if child == 0:
        try:
            function()
        except BaseException:
            os._exit(1)
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def test_a_folder_of_another_process_is_refused_and_the_error_names_all(tmp_path, other):
    with pytest.raises(FolderInUseError) as caught:
        FolderClaim(tmp_path / "run")
    for part in (tmp_path / "run", f"process {other.pid} on {socket.gethostname()}", "to do"):
        assert str(part) in str(caught.value)


def test_it_is_free_when_that_process_has_released_it(tmp_path, other):
    other.communicate("\n")
    assert list(tmp_path.iterdir()) == []
    FolderClaim(tmp_path / "run").release()


def test_it_is_free_when_that_process_was_killed(tmp_path, other):
    other.send_signal(signal.SIGKILL)
    other.wait()
    assert os.listdir(tmp_path / "run") == [LOCK]
    FolderClaim(tmp_path / "run").release()
    assert os.listdir(tmp_path / "run") == []


def test_parts_of_one_process_share_a_folder_until_the_last_one_has_released_it(tmp_path):
    claims = [FolderClaim(tmp_path), FolderClaim(tmp_path / ".." / tmp_path.name)]
    claims[0].release()
    claims[0].release()
    assert in_child(lambda: FolderClaim(tmp_path)) == 1
    claims[1].release()
    assert in_child(lambda: FolderClaim(tmp_path)) == 0


def test_a_forked_child_does_not_keep_the_claim(tmp_path):
    claim = FolderClaim(tmp_path)
    reads, writes = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(writes)
        os.read(reads, 1)  # until the parent closes its end
        os._exit(0)
    claim.release()
    assert in_child(lambda: FolderClaim(tmp_path)) == 0
    os.close(writes)
    os.waitpid(child, 0)


def test_a_forked_child_cannot_release_the_claim_of_its_parent(tmp_path):
    claim = FolderClaim(tmp_path)
    assert in_child(claim.release) == 0
    assert in_child(lambda: FolderClaim(tmp_path)) == 1
    claim.release()


@pytest.mark.parametrize("folder", ["s3://bucket/run", "memory://run"])
def test_a_url_is_not_claimed(folder, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # taken for a path, it would be made here
    claim = FolderClaim(folder)
    assert list(tmp_path.iterdir()) == []
    claim.release()


def test_a_file_system_without_locks_is_no_error(tmp_path, monkeypatch):
    def refuse(file, operation):
        raise OSError(37, "No locks available")

    monkeypatch.setattr(fcntl, "flock", refuse)
    FolderClaim(tmp_path).release()
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_made_is_left_to_who_writes_into_it(tmp_path):
    (tmp_path / "taken").write_text("")
    FolderClaim(tmp_path / "taken" / "run").release()


@pytest.mark.parametrize(
    "arguments",
    [
        lambda folder: {"callbacks": [ModelCheckpoint(folder)], "enable_checkpointing": True},
        lambda folder: {"logger": CSVLogger(folder.parent, name="", version=folder.name)},
    ],
    ids=["checkpoints", "logger"],
)
def test_a_fit_refuses_the_folder_of_another_run_and_writes_nothing_there(tmp_path, other, arguments):
    with pytest.raises(FolderInUseError, match="in use"):
        quiet_trainer(**arguments(tmp_path / "run")).fit(TinyModule(), TinyData(2))
    assert os.listdir(tmp_path / "run") == [LOCK]
    other.communicate("\n")
    for _ in range(2):
        quiet_trainer(**arguments(tmp_path / "run")).fit(TinyModule(), TinyData(2))
    assert LOCK not in os.listdir(tmp_path / "run")
    assert in_child(lambda: FolderClaim(tmp_path / "run")) == 0


def test_a_fit_that_fails_gives_its_folder_back(tmp_path):
    class Failing:
        def on_train_start(self):
            raise ValueError("no")

    kept = [ModelCheckpoint(tmp_path / "run"), ModelCheckpoint(tmp_path / "run", monitor="loss"), Failing()]
    with pytest.raises(ValueError, match="no"):
        quiet_trainer(callbacks=kept, enable_checkpointing=True).fit(TinyModule(), TinyData(2))
    assert not (tmp_path / "run").exists()


def test_a_link_in_the_place_of_the_lock_is_not_followed(tmp_path):
    (tmp_path / "notes").write_text("of the user")
    (tmp_path / LOCK).symlink_to("notes")
    FolderClaim(tmp_path).release()
    assert (tmp_path / "notes").read_text() == "of the user"
    assert (tmp_path / LOCK).is_symlink()
