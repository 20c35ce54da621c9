from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trainkit.record.starts import add_patch, add_start, starts_in

START = st.fixed_dictionaries(
    {"started": st.text(), "packages": st.dictionaries(st.text(), st.sampled_from("12")), "repository": st.none()}
)


@given(starts=st.lists(START, min_size=1, max_size=5))
def test_all_starts_are_read_as_they_were(tmp_path_factory: pytest.TempPathFactory, starts: list[Any]) -> None:
    folder = tmp_path_factory.mktemp("run")
    for number, start in enumerate(starts):
        add_start(folder, start)
        assert starts_in(folder) == starts[: number + 1]


@given(starts=st.lists(START, min_size=1, max_size=5))
def test_a_start_of_which_more_is_known_later_takes_its_own_place(
    tmp_path_factory: pytest.TempPathFactory, starts: list[Any]
) -> None:
    folder = tmp_path_factory.mktemp("run")
    for number, start in enumerate(starts):
        add_start(folder, {"started": start["started"]})
        assert starts_in(folder)[-1]["started"] == start["started"]
        add_start(folder, start, again=True)
        assert starts_in(folder) == starts[: number + 1]


def test_what_is_the_same_is_written_once(tmp_path: Path) -> None:
    packages = {"torch": "2.9"}
    for started in "abc":
        path = add_start(tmp_path, {"started": started, "packages": packages})
    assert json.loads(path.read_text())["starts"] == [
        {"started": "a", "packages": packages},
        {"started": "b"},
        {"started": "c"},
    ]


@pytest.mark.parametrize("text", ["mine", "{}", '{"starts": 1}', '{"starts": [1]}'])
def test_a_file_of_somebody_else_is_left_alone(tmp_path: Path, text: str) -> None:
    (tmp_path / "run.json").write_text(text)
    for started in "ab":
        assert add_start(tmp_path, {"started": started}).name == "run-v1.json"
    assert (tmp_path / "run.json").read_text() == text
    assert [start["started"] for start in starts_in(tmp_path)] == ["a", "b"]


def test_a_patch_is_written_once(tmp_path: Path) -> None:
    assert [add_patch(tmp_path, patch) for patch in (b"a", b"a", b"b", b"a", b"b", b"c")] == [
        "changes.patch",
        "changes.patch",
        "changes-v1.patch",
        "changes.patch",
        "changes-v1.patch",
        "changes-v2.patch",
    ]
    assert (tmp_path / "changes-v1.patch").read_bytes() == b"b"


def test_a_folder_without_a_record_has_no_starts(tmp_path: Path) -> None:
    assert starts_in(tmp_path) == starts_in(tmp_path / "gone") == []
