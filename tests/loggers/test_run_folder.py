from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from trainkit.errors import ConfigError, LogWriteError
from trainkit.loggers.run_folder import RunFolder, next_version, writing


def test_the_first_version_is_0_also_where_nothing_exists(tmp_path):
    assert next_version(tmp_path) == next_version(tmp_path / "nothing") == 0


def test_the_next_version_follows_the_highest_and_counts_as_numbers(tmp_path):
    for name in ("version_2", "version_10", "version_best", "other_99", "version_11.old"):
        (tmp_path / name).mkdir()
    assert next_version(tmp_path) == 11


def test_a_version_is_chosen_once_and_nothing_is_made(tmp_path):
    folder = RunFolder(tmp_path, "runs", None)
    (tmp_path / "runs" / "version_0").mkdir(parents=True)
    assert folder.version == 1
    (tmp_path / "runs" / "version_7").mkdir()
    assert folder.version == 1
    assert folder.path == os.path.join(tmp_path, "runs", "version_1")
    assert not Path(folder.path).exists()


def test_no_version_is_kept_before_it_is_known_where_they_are(tmp_path):
    folder = RunFolder(None, "runs", None)
    assert folder.version == 0
    (tmp_path / "runs" / "version_4").mkdir(parents=True)
    folder.save_dir = str(tmp_path)
    assert folder.version == 5


@pytest.mark.parametrize(("version", "last"), [(3, "version_3"), ("blue", "blue")])
def test_a_given_version_names_the_folder(tmp_path, version, last):
    assert RunFolder(tmp_path, "runs", version).path == os.path.join(tmp_path, "runs", last)


def test_without_a_name_versions_are_in_save_dir(tmp_path):
    assert RunFolder(tmp_path, "", 0).path == os.path.join(tmp_path, "version_0")


def test_the_home_folder_is_understood(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    assert RunFolder("~/runs", "a", 0).root == os.path.join(tmp_path, "runs", "a")


@pytest.mark.parametrize("version", [-1, True, 1.5, ["a"]])
def test_a_version_that_names_no_folder_is_refused(version):
    with pytest.raises(ConfigError, match="version="):
        RunFolder("runs", "a", version)


def test_a_run_is_continued_in_the_folder_of_its_checkpoint(tmp_path):
    for name, version in (("version_4", 4), ("blue", "blue")):
        folder = RunFolder(tmp_path, "runs", None)
        folder.continue_from(tmp_path / "runs" / name / "checkpoints" / "last.ckpt")
        assert folder.version == version


@pytest.mark.parametrize("checkpoint", ["runs/last.ckpt", "elsewhere/version_4/last.ckpt", "last.ckpt"])
def test_a_checkpoint_of_no_version_of_this_experiment_changes_nothing(tmp_path, checkpoint):
    folder = RunFolder(tmp_path, "runs", None)
    folder.continue_from(tmp_path / checkpoint)
    assert folder.version == 0


def test_a_folder_of_checkpoints_beside_those_of_runs_is_no_run(tmp_path):
    (tmp_path / "kept").mkdir()
    (tmp_path / "kept" / "last.ckpt").touch()
    folder = RunFolder(tmp_path, "", None)
    assert not folder.continue_from(tmp_path / "kept" / "last.ckpt")
    (tmp_path / "kept" / "metrics.csv").touch()
    assert folder.continue_from(tmp_path / "kept" / "last.ckpt")
    assert folder.version == "kept"


def test_a_given_version_stays_when_a_run_is_continued(tmp_path):
    folder = RunFolder(tmp_path, "runs", 1)
    folder.continue_from(tmp_path / "runs" / "version_4" / "last.ckpt")
    assert folder.version == 1


def test_a_failure_to_write_names_path_reason_and_remedy():
    with pytest.raises(LogWriteError) as caught, writing("runs/metrics.csv"):
        raise OSError(errno.ENOSPC, "full")
    for part in ("runs/metrics.csv", "No space left", "Free some space", "default_root_dir", "logger=False"):
        assert part in str(caught.value)
    assert isinstance(caught.value, OSError)
    assert caught.value.errno == caught.value.__cause__.errno == errno.ENOSPC


def test_an_error_without_a_number_keeps_its_words():
    with pytest.raises(LogWriteError, match="Writer is closed"), writing("runs"):
        raise OSError("Writer is closed")
