from __future__ import annotations

import os
import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest

from trainkit.doctor import places
from trainkit.doctor.report import Finding, Found


def levels(found: list[Found]) -> list[str]:
    return [each.level for each in found if isinstance(each, Finding)]


@pytest.mark.parametrize(("free", "expected"), [(10**12, []), (10**9, ["slow"]), (0, ["broken"])])
def test_a_disk_that_is_full_is_broken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, free: int, expected: list[str]
) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=free, total=10**12))
    monkeypatch.setattr(places, "file_system_of", lambda place: "ext4")
    assert levels(list(places.disk(str(tmp_path / "is" / "made" / "later")))) == expected


def test_a_folder_that_cannot_be_written_to_is_broken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    assert "broken" in levels(list(places.disk(str(tmp_path))))


def test_a_network_folder_is_slow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(places, "file_system_of", lambda place: "nfs4")
    found = [each for each in places.disk(str(tmp_path)) if isinstance(each, Finding)]
    assert any("is on nfs4" in each.what for each in found)
    assert not levels(list(places.disk("s3://bucket/runs")))


@pytest.mark.parametrize("kind", ["proc", "sysfs", "cgroup2"])
def test_a_window_into_the_kernel_is_no_place_for_a_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    monkeypatch.setattr(places, "file_system_of", lambda place: kind)
    (found,) = places.disk(str(tmp_path))
    assert isinstance(found, Finding) and found.level == "broken"
    assert f"is on {kind}" in found.what and "full" not in found.what


@pytest.mark.skipif(not os.path.isdir("/proc/self"), reason="of Linux alone")
def test_proc_is_known() -> None:
    assert [each.what for each in places.disk("/proc/runs") if isinstance(each, Finding)] == ["/proc is on proc"]


@pytest.mark.parametrize(("free", "expected"), [(64 * 10**6, ["slow"]), (8 * 10**9, [])])
def test_little_shared_memory_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, free: int, expected: list[str]
) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=free, total=free))
    assert levels(list(places.shared_memory(str(tmp_path)))) == expected
    assert list(places.shared_memory(str(tmp_path / "nowhere"))) == []


def test_the_longest_mount_around_a_folder_is_its_file_system(tmp_path: Path) -> None:
    (tmp_path / "my data" / "inner").mkdir(parents=True)
    (tmp_path / "my database").mkdir()
    real = tmp_path.resolve()
    mounts = tmp_path / "mounts"
    escaped = f"{real}/my\\040data"
    mounts.write_text(f"root / ext4 rw 0 0\nhost:/d {escaped} nfs4 rw 0 0\nx {real} tmpfs rw 0 0\nbroken\n")
    expected = {"my data/inner": "nfs4", "my data": "nfs4", "my database": "tmpfs", ".": "tmpfs", "..": "ext4"}
    assert {name: places.file_system_of(tmp_path / name, mounts) for name in expected} == expected
    assert places.file_system_of(tmp_path, tmp_path / "nowhere") == ""
    assert [places.is_network(kind) for kind in ("nfs4", "fuse.sshfs", "ext4", "tmpfs")] == [True, True, False, False]
