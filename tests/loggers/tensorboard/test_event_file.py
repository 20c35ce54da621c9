from __future__ import annotations

import errno
import os

import pytest
from tensorboard.backend.event_processing.event_file_loader import EventFileLoader
from tensorboard.compat.proto.summary_pb2 import Summary

from trainkit.loggers.tensorboard.event_file import OF_TRAINING, EventFile, sizes_of_files


def scalar(value):
    return Summary(value=[Summary.Value(tag="a", simple_value=value)])


def events_in(folder):
    return [event for path in sorted(folder.iterdir()) for event in EventFileLoader(str(path)).Load()]


def test_events_come_back_after_the_version_that_readers_ask_for(tmp_path):
    file = EventFile(str(tmp_path / "new" / "folder"), flush_secs=1e9)
    file.add_summary(scalar(0.5), 7)
    file.close()
    head, event = events_in(tmp_path / "new" / "folder")
    assert head.file_version == "brain.Event:2"
    assert (event.step, event.summary.value[0].tag) == (7, "a")
    assert event.wall_time >= head.wall_time > 1.7e9


def test_what_was_added_can_be_read_after_a_flush(tmp_path):
    file = EventFile(str(tmp_path), flush_secs=1e9)
    file.add_summary(scalar(0.5), 1)
    assert len(events_in(tmp_path)) == 1
    file.flush()
    assert len(events_in(tmp_path)) == 2
    file.close()


def test_an_event_is_flushed_when_the_time_has_come(tmp_path):
    file = EventFile(str(tmp_path), flush_secs=0)
    file.add_summary(scalar(0.5), 1)
    assert len(events_in(tmp_path)) == 2
    file.close()


def test_files_of_one_second_are_read_in_the_order_in_which_they_were_made(tmp_path):
    for step in range(12):
        file = EventFile(str(tmp_path), flush_secs=0)
        file.add_summary(scalar(0.5), step)
        file.close()
    assert [event.step for event in events_in(tmp_path) if event.HasField("summary")] == list(range(12))


def test_only_files_of_training_are_counted(tmp_path):
    for suffix in ("", OF_TRAINING):
        file = EventFile(str(tmp_path), 0, suffix)
        file.add_summary(scalar(0.5), 1)
        file.close()
    assert sizes_of_files(str(tmp_path)) == {os.path.basename(file.path): os.path.getsize(file.path)}
    assert sizes_of_files(str(tmp_path / "none")) == {}


def test_a_file_that_cannot_be_begun_is_not_left(tmp_path, monkeypatch):
    def full(self):
        raise OSError(errno.ENOSPC, "full")

    monkeypatch.setattr(EventFile, "flush", full)
    with pytest.raises(OSError, match="full"):
        EventFile(str(tmp_path), 0)
    assert list(tmp_path.iterdir()) == []


def test_links_to_files_of_other_runs_are_not_counted(tmp_path):
    file = EventFile(str(tmp_path / "a"), flush_secs=0, suffix=OF_TRAINING)
    file.close()
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / os.path.basename(file.path)).symlink_to(file.path)
    assert len(sizes_of_files(str(tmp_path / "a"))) == 1
    assert sizes_of_files(str(tmp_path / "b")) == {}
