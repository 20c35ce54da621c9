from __future__ import annotations

import itertools
import json
import math
from pathlib import Path

import pytest

from trainkit.record.json_file import path_of_own, read_json, versions, write_json


def test_what_is_written_is_read(tmp_path: Path) -> None:
    value = {"a": [1, {"b": None}], "half": "\udcff", "path": Path("x")}
    write_json(tmp_path / "a.json", value)
    assert read_json(tmp_path / "a.json") == {"a": [1, {"b": None}], "half": "\udcff", "path": "x"}


def test_numbers_that_json_lacks_are_text(tmp_path: Path) -> None:
    write_json(tmp_path / "a.json", {"loss": math.nan, "all": [math.inf, 1.5]})
    text = (tmp_path / "a.json").read_text()
    found = json.loads(text, parse_constant=lambda name: pytest.fail(name))
    assert found == {"loss": "nan", "all": ["inf", 1.5]}


@pytest.mark.parametrize("text", ["", "[1]", "{", "[" * 100_000, "\0"])
def test_what_is_no_record_is_none(tmp_path: Path, text: str) -> None:
    (tmp_path / "a.json").write_text(text)
    assert read_json(tmp_path / "a.json") is None
    assert read_json(tmp_path / "b.json") is None


def test_a_file_that_cannot_be_replaced_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "a.json").mkdir()
    with pytest.raises(OSError):
        write_json(tmp_path / "a.json", {})
    assert [path.name for path in tmp_path.iterdir()] == ["a.json"]


@pytest.mark.parametrize("others", [0, 1, 3])
def test_a_name_that_is_free_or_ones_own_is_found(tmp_path: Path, others: int) -> None:
    names = list(itertools.islice(versions("run", ".json"), others + 1))
    assert names[:2] == ["run.json", "run-v1.json"][: others + 1]
    for name in names[:-1]:
        (tmp_path / name).write_text('{"mine": 1}')
    for _ in range(2):
        path = path_of_own(tmp_path, "run", lambda found: "ours" in found)
        assert path == tmp_path / names[-1]
        write_json(path, {"ours": 1})
