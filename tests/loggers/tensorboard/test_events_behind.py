from __future__ import annotations

import os
from pathlib import Path

import pytest
from tensorboard.backend.event_processing.event_file_loader import EventFileLoader
from tensorboard.compat.proto.summary_pb2 import Summary

from trainkit.loggers.run_mark import NAME, make_mark
from trainkit.loggers.tensorboard.event_file import OF_TRAINING, EventFile, sizes_of_files, suffix_of_training
from trainkit.loggers.tensorboard.events_behind import HPARAMS, EventsBehind


def write(folder, steps, suffix=None, tag="a"):
    suffix = suffix_of_training(make_mark(str(folder))) if suffix is None else suffix
    file = EventFile(str(folder), 0, suffix)
    for step in steps:
        file.add_summary(Summary(value=[Summary.Value(tag=tag, simple_value=0.5)]), step)
    file.close()
    return file.path


def steps_in(path):
    return [event.step for event in EventFileLoader(path).Load() if event.HasField("summary")]


@pytest.fixture
def behind(tmp_path):
    """Two files of training: two of five events were there at the checkpoint, the second file was not."""
    first = write(tmp_path, [1, 2])
    sizes = sizes_of_files(str(tmp_path))
    # The version at its beginning is no event that could be appended.
    with open(write(tmp_path / "more", [3, 4, 5]), "rb") as more, open(first, "ab") as file:
        more.seek(_end_of_version(more))
        file.write(more.read())
    second = write(tmp_path, [6, 7])
    return EventsBehind(str(tmp_path), sizes, keep=None), first, second


def _end_of_version(file):
    length = int.from_bytes(file.read(8), "little")
    return 8 + 4 + length + 4


def test_what_was_not_passed_stays(behind):
    events, first, second = behind
    events.remove_passed()
    assert (steps_in(first), steps_in(second)) == ([1, 2, 3, 4, 5], [6, 7])


@pytest.mark.parametrize("by", [1, 2])
def test_events_go_one_by_one_as_the_run_passes_them(behind, by):
    events, first, second = behind
    for step in range(3, 7):
        events.log(step, ["a"])
        if step % by == 0:
            events.remove_passed()
    events.remove_passed()
    assert (steps_in(first), steps_in(second)) == ([1, 2], [7])
    names = [name for name in os.listdir(os.path.dirname(first)) if not name.startswith(NAME)]
    assert sorted(names) == sorted([*map(os.path.basename, (first, second)), "more"])


def test_a_file_of_which_nothing_is_left_goes(behind):
    events, first, second = behind
    events.log(8, ["a"])
    events.remove_passed()
    assert events.are_passed
    assert steps_in(first) == [1, 2]
    assert not os.path.exists(second)


def test_half_an_event_that_a_kill_left_is_none(tmp_path):
    path = write(tmp_path, [1, 2])
    os.truncate(path, os.path.getsize(path) - 3)
    events = EventsBehind(str(tmp_path), {}, keep=None)
    events.log(1, ["a"])
    assert events.are_passed


def test_records_of_hyperparameters_are_no_rows_and_go_with_the_last_of_them(tmp_path):
    path = write(tmp_path, [1], tag=f"{HPARAMS}session_end_info")
    events = EventsBehind(str(tmp_path), {}, keep=None)
    events.remove_passed()
    assert os.path.exists(path)
    events.log(1, ["a"])
    events.remove_passed()
    assert not os.path.exists(path)


def test_files_of_others_and_the_open_one_are_not_looked_at(tmp_path):
    write(tmp_path, [1], suffix="")
    opened = write(tmp_path, [1])
    # One without a mark, and one that was copied from the folder of another run, of which the checkpoint says nothing.
    write(tmp_path, [1], suffix=OF_TRAINING)
    write(tmp_path, [1], suffix=suffix_of_training(make_mark(str(tmp_path / "other"))))
    assert EventsBehind(str(tmp_path), {}, keep=os.path.basename(opened)).settled == {}


@pytest.mark.parametrize("off", [-30, -3, 1, 5, 12])
def test_a_file_is_left_alone_if_no_record_ends_where_it_is_said_to_have_ended(tmp_path, off):
    name = os.path.basename(write(tmp_path, [1]))
    size = os.path.getsize(tmp_path / name)
    more = write(tmp_path / "more", [2, 3])
    with open(tmp_path / name, "ab") as file:
        file.write(Path(more).read_bytes())
    before = (tmp_path / name).read_bytes()
    with pytest.warns(UserWarning, match=f"{name} is left as it is: in it no record ends at byte {size + off}"):
        events = EventsBehind(str(tmp_path), {name: size + off}, keep=None)
    events.log(9, ["a"])
    events.remove_passed()
    assert (tmp_path / name).read_bytes() == before
