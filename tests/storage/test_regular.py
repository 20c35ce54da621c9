from __future__ import annotations

import os
import socket
from pathlib import Path
from typing import Any

import pytest

from trainkit.storage.regular import open_own, open_regular

pytestmark = pytest.mark.skipif(os.name == "nt", reason="no pipes and sockets with names")


def test_a_file_and_what_a_link_leads_to_are_read(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"content")
    (tmp_path / "link").symlink_to("file")
    for name in ("file", "link"):
        with open_regular(tmp_path / name) as file:
            assert file.read() == b"content"


@pytest.mark.parametrize("name", ["pipe", "link", "/dev/null"])
def test_what_may_never_end_is_refused_and_not_waited_for(tmp_path: Path, name: str) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "link").symlink_to("pipe")
    with pytest.raises(OSError, match="a device, a pipe or a socket"):
        open_regular(tmp_path / name)


def test_sockets_folders_and_names_that_cannot_be_are_errors_of_the_system(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as each:
        each.bind(str(tmp_path / "socket"))
        for path in (tmp_path / "socket", tmp_path, "a\0b", "\ud800"):
            with pytest.raises(OSError):
                open_regular(path)


def test_a_pipe_is_read_where_that_is_meant(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with open_regular(tmp_path / "pipe", or_pipe=True) as file:
        assert file.read() == b"", "nobody writes into it"
    ours, theirs = os.pipe()
    os.write(theirs, b"content")
    os.close(theirs)
    with open_regular(f"/dev/fd/{ours}", or_pipe=True) as file:
        assert file.read() == b"content"
    os.close(ours)


@pytest.mark.parametrize("mode", ["rb", "r+b", "ab"])
@pytest.mark.parametrize("name", ["pipe", "link", "hard", "file", "none", "dangling"])
def test_what_has_a_second_name_or_is_no_file_is_not_written_to(tmp_path: Path, name: str, mode: Any) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "file").write_bytes(b"content")
    (tmp_path / "link").symlink_to("file")
    (tmp_path / "dangling").symlink_to("none")
    os.link(tmp_path / "file", tmp_path / "hard")
    with pytest.raises(OSError):
        open_own(tmp_path / name, mode)
    assert (tmp_path / "file").read_bytes() == b"content"
    assert not os.path.exists(tmp_path / "none")


def test_a_file_of_one_name_is_written_to_at_its_end(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"a")
    with open_own(tmp_path / "file", "ab") as file:
        file.write(b"b")
    with open_own(tmp_path / "file") as file:
        assert file.read() == b"ab"
