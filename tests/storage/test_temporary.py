from __future__ import annotations

import errno
import fcntl
import os
import re
import stat
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path

import pytest

from trainkit.storage import temporary
from trainkit.storage.temporary import ABANDONED_AFTER_S, remove_abandoned, replacement
from trainkit.storage.temporary_names import PATTERN, temporary_for


@pytest.fixture
def leftover(tmp_path: Path) -> Path:
    """What a process of this machine has left that was killed while it wrote."""
    path = temporary_for(tmp_path / "last.ckpt")
    path.write_text("half a checkpoint")
    return path


def of_another_kernel(leftover: Path, *, age_s: float) -> Path:
    kernel, number = re.findall("[0-9a-f]+", leftover.name.removeprefix(".trainkit").removesuffix(".tmp"))
    path = leftover.rename(leftover.with_name(f".trainkit-{int(kernel, 16) ^ 1:08x}-{number}.tmp"))
    os.utime(path, (path.stat().st_atime, path.stat().st_mtime - age_s))
    return path


def run(program: str, *arguments: object) -> str:
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program), *map(str, arguments)], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_leftover_of_a_killed_process_goes_with_the_next_file(leftover: Path) -> None:
    with replacement(leftover.with_name("a")):
        pass
    assert os.listdir(leftover.parent) == ["a"]


@pytest.mark.parametrize(
    "name", [".notes.tmp", ".last.ckpt.1-1.tmp", ".trainkit-notes.tmp", ".trainkit-0123abcd-0.tmp", "last.tmp"]
)
def test_a_file_of_another_pattern_stays_however_old(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text("of the user")
    os.utime(tmp_path / name, (0, 0))
    remove_abandoned(tmp_path)
    assert (tmp_path / name).exists()


def test_a_file_that_is_being_written_stays_however_old(tmp_path: Path) -> None:
    with replacement(tmp_path / "a") as file:
        (name,) = os.listdir(tmp_path)
        os.utime(tmp_path / name, (0, 0))
        # A process of its own, which has the same number in another container.
        run(
            "import os, sys; os.getpid = lambda: int(sys.argv[2])\n"
            "from pathlib import Path; from trainkit.storage.temporary import remove_abandoned\n"
            "remove_abandoned(Path(sys.argv[1]))",
            tmp_path,
            os.getpid(),
        )
        remove_abandoned(tmp_path)
        file.write(b"whole")
    assert (tmp_path / "a").read_bytes() == b"whole"


def test_a_file_that_is_being_renamed_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def replace(source: Path, path: Path) -> None:
        remove_abandoned(tmp_path)
        source.rename(path)

    monkeypatch.setattr(os, "replace", replace)
    with replacement(tmp_path / "a") as file:
        file.write(b"whole")
    assert (tmp_path / "a").read_bytes() == b"whole"


def test_a_lock_on_a_file_of_another_machine_is_believed_only_after_long(leftover: Path) -> None:
    young = of_another_kernel(leftover, age_s=ABANDONED_AFTER_S / 2)
    remove_abandoned(young.parent)
    assert young.exists()
    os.utime(young, (0, 0))
    remove_abandoned(young.parent)
    assert not young.exists()


def test_where_there_are_no_locks_files_are_written_and_no_leftover_is_removed(
    leftover: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*arguments: object) -> None:
        raise OSError(errno.ENOLCK, "no locks")

    monkeypatch.setattr(fcntl, "flock", refuse)
    with replacement(leftover.with_name("a")):
        pass
    assert sorted(os.listdir(leftover.parent)) == [leftover.name, "a"]
    monkeypatch.setattr(temporary, "CAN_LOCK", False)
    with replacement(leftover.with_name("b")):
        pass
    assert sorted(os.listdir(leftover.parent)) == [leftover.name, "a", "b"]


def test_a_link_that_was_not_renamed_goes_after_long(tmp_path: Path) -> None:
    (tmp_path / "notes").write_text("of the user")
    young, old = temporary_for(tmp_path / "a"), temporary_for(tmp_path / "a")
    for link in (young, old):
        link.symlink_to("notes")
    os.utime(old, (0, 0), follow_symlinks=False)
    os.utime(tmp_path / "notes", (0, 0))  # the age of the link counts
    remove_abandoned(tmp_path)
    assert sorted(os.listdir(tmp_path)) == sorted([young.name, "notes"])


def test_young_links_pipes_and_second_names_are_no_leftovers(leftover: Path, tmp_path: Path) -> None:
    (tmp_path / "notes").write_text("of the user")
    os.link(leftover, tmp_path / "best.ckpt")
    temporary_for(tmp_path / "a").symlink_to("notes")
    os.mkfifo(temporary_for(tmp_path / "a"))
    before = sorted(os.listdir(tmp_path))
    remove_abandoned(tmp_path)
    assert sorted(os.listdir(tmp_path)) == before
    # What is left when the checkpoint itself is deleted would hold its space for ever.
    (tmp_path / "best.ckpt").unlink()
    remove_abandoned(tmp_path)
    assert not leftover.exists()


def test_a_file_that_is_taken_for_a_leftover_before_it_is_locked_is_made_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, seen = fcntl.flock, list[str]()

    def flock(descriptor: int, operation: int) -> None:
        if not seen:
            seen.extend(os.listdir(tmp_path))
            os.unlink(tmp_path / seen[0])
        real(descriptor, operation)

    monkeypatch.setattr(fcntl, "flock", flock)
    with replacement(tmp_path / "a") as file:
        file.write(b"whole")
    assert seen
    assert (tmp_path / "a").read_bytes() == b"whole"


def test_a_name_that_is_taken_is_an_error_and_is_left_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "notes").write_text("of the user")
    link = temporary_for(tmp_path / "a")
    link.symlink_to("notes")
    monkeypatch.setattr(temporary, "temporary_for", lambda path: link)
    with pytest.raises(FileExistsError), replacement(tmp_path / "a"):
        pass
    assert link.is_symlink()
    assert (tmp_path / "notes").read_text() == "of the user"


TWO_WRITERS = """
    import os, random, sys
    from pathlib import Path
    from trainkit.storage.temporary import replacement

    path = Path(sys.argv[1])
    os.getpid = lambda: 1
    random.seed(0)

    def write(letter, reads, writes):
        with replacement(path) as file:
            os.write(writes, b"open")
            os.read(reads, 4)
            file.write(letter * 100_000)
        os._exit(0)

    one, other = os.pipe(), os.pipe()
    children = []
    for letter, reads, writes in ((b"a", one[0], other[1]), (b"b", other[0], one[1])):
        if not (child := os.fork()):
            write(letter, reads, writes)
        children.append(child)
    print([os.waitpid(child, 0)[1] for child in children])
"""


def test_two_writers_of_one_path_have_files_of_their_own(tmp_path: Path) -> None:
    # As process 1 of two containers that share a folder: both are open before either writes.
    assert run(TWO_WRITERS, tmp_path / "last.ckpt") == "[0, 0]\n"
    content = (tmp_path / "last.ckpt").read_bytes()
    assert len(content) == 100_000
    assert len(set(content)) == 1
    assert os.listdir(tmp_path) == ["last.ckpt"]


def test_names_are_of_the_pattern_and_differ(tmp_path: Path) -> None:
    names = {temporary_for(tmp_path / "a").name for _ in range(100)}
    assert len(names) == 100
    assert all(PATTERN.fullmatch(name) for name in names)


# Rights
@pytest.fixture
def umask() -> Iterator[None]:
    before = os.umask(0o027)
    yield
    os.umask(before)


@pytest.mark.usefixtures("umask")
@pytest.mark.parametrize("mode", [None, 0o600, 0o666, 0o444])
def test_the_rights_of_the_file_that_is_replaced_stay(tmp_path: Path, mode: int | None) -> None:
    path = tmp_path / "a"
    if mode is not None:
        path.touch()
        path.chmod(mode)
    with replacement(path) as file:
        while_written = stat.S_IMODE(os.fstat(file.fileno()).st_mode)
    expected = 0o640 if mode is None else mode
    assert (while_written, stat.S_IMODE(path.stat().st_mode)) == (expected, expected)


@pytest.mark.skipif(os.geteuid() != 0, reason="only a superuser may give files to any group")
def test_the_group_of_the_file_stays_or_has_no_rights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a"
    path.touch()
    os.chown(path, -1, 12345)
    path.chmod(0o660)
    with replacement(path):
        pass
    assert (path.stat().st_gid, stat.S_IMODE(path.stat().st_mode)) == (12345, 0o660)

    def refuse(*arguments: object) -> None:
        raise PermissionError

    monkeypatch.setattr(os, "fchown", refuse)
    with replacement(path):
        pass
    assert (path.stat().st_gid, stat.S_IMODE(path.stat().st_mode)) == (os.getegid(), 0o600)
