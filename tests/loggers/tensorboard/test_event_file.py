from __future__ import annotations

from tensorboard.backend.event_processing.event_file_loader import EventFileLoader
from tensorboard.compat.proto.summary_pb2 import Summary

from trainkit.loggers.tensorboard.event_file import EventFile, cut_files, sizes_of_files


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


def test_files_are_cut_back_to_the_events_that_they_had(tmp_path):
    first = EventFile(str(tmp_path), flush_secs=0)
    first.add_summary(scalar(0.5), 1)
    sizes = sizes_of_files(str(tmp_path))
    first.add_summary(scalar(0.5), 2)
    first.close()
    for step in (3, 4):
        later = EventFile(str(tmp_path), flush_secs=0)
        later.add_summary(scalar(0.5), step)
        later.close()
    (tmp_path / "metrics.csv").touch()

    cut_files(str(tmp_path), sizes, keep=later.path.rpartition("/")[2])

    (tmp_path / "metrics.csv").unlink()
    assert [event.step for event in events_in(tmp_path) if event.HasField("summary")] == [1, 4]
    assert len(list(tmp_path.iterdir())) == 2


def test_where_there_is_no_folder_there_are_no_files(tmp_path):
    assert sizes_of_files(str(tmp_path / "none")) == {}
    cut_files(str(tmp_path / "none"), {}, keep=None)
