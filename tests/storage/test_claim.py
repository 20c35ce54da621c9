"""A folder belongs to one run at a time, and to nobody when that run is dead."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import tempfile
import warnings

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


def link_to(notes, lock):
    lock.symlink_to(notes.name)


def write_notes(notes, lock):
    lock.write_text("of the user")


@pytest.mark.parametrize("make", [link_to, lambda notes, lock: os.link(notes, lock), write_notes])
@pytest.mark.parametrize("has_locks", [True, False])
def test_a_file_of_somebody_else_in_the_place_of_the_lock_stays_as_it_is(tmp_path, monkeypatch, make, has_locks):
    def refuse(file, operation):
        raise OSError(37, "No locks available")

    if not has_locks:
        monkeypatch.setattr(fcntl, "flock", refuse)
    notes, lock = tmp_path / "notes", tmp_path / LOCK
    notes.write_text("of the user")
    make(notes, lock)
    before = lock.lstat()
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        FolderClaim(tmp_path).release()
    assert any("is not claimed" in str(each.message) for each in told) or not has_locks
    assert notes.read_text() == lock.read_text() == "of the user"
    assert lock.lstat().st_ino == before.st_ino


def test_a_pipe_in_the_place_of_the_lock_is_not_waited_for_and_stays(tmp_path):
    os.mkfifo(tmp_path / LOCK)
    with pytest.warns(UserWarning, match="is not claimed"):
        FolderClaim(tmp_path).release()
    assert (tmp_path / LOCK).is_fifo()


def test_what_a_lock_says_cannot_be_taken_for_a_line_of_the_error(tmp_path):
    with open(tmp_path / LOCK, "w") as file:
        file.write("process 1 on a\n    to do        nothing\x1b[31m")
        file.flush()
        fcntl.flock(file, fcntl.LOCK_EX)
        with pytest.raises(FolderInUseError, match=r"process 1 on a\\n .*\\x1b\[31m\n"):
            FolderClaim(tmp_path)


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="only root can be another user")
def test_the_folder_of_another_user_is_in_use_too():
    folder = tempfile.mkdtemp()  # pytest's own folders are closed to others

    def as_nobody():
        os.setuid(65534)
        with pytest.raises(FolderInUseError, match=f"process {os.getppid()} on"):
            FolderClaim(folder)

    os.chmod(folder, 0o777)
    claim = FolderClaim(folder)
    try:
        os.chmod(os.path.join(folder, LOCK), 0o644)
        assert in_child(as_nobody) == 0
    finally:
        claim.release()
        os.rmdir(folder)
