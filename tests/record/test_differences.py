from __future__ import annotations

from typing import Any

import pytest

from trainkit.record.differences import differences


def part(name: str, **told: Any) -> dict[str, Any]:
    usual = {"target": f"own:{name}", "distribution": None, "version": None, "file": f"{name}.py", "sha256": "a"}
    return {"name": name, **usual, **told}


def start(*parts: dict[str, Any], python: str = "3.12", commit: str = "c0ffee", **told: Any) -> dict[str, Any]:
    packages = {"torch": "2.9", "trainkit": "1", "kit-plugin": "1", "pandas": "2"} | told.pop("packages", {})
    repository = {"commit": commit, "patch": told.pop("patch", None)}
    return {"python": python, "packages": packages, "parts": list(parts), "repository": repository, **told}


@pytest.mark.parametrize(
    ("now", "line"),
    [
        (start(part("a"), python="3.13"), "python 3.12 -> 3.13"),
        (start(part("a"), packages={"torch": "3.0"}), "torch 2.9 -> 3.0"),
        (start(part("a"), packages={"pandas": "3", "numpy": "1"}), "other packages: pandas, numpy"),
        (start(part("a"), commit="beef"), "commit c0ffee -> beef"),
        (start(part("a"), patch="changes.patch"), "changes that are not committed: none -> changes.patch"),
        (start(), "a (own:a) is missing"),
        (start(part("a"), part("b")), "b (own:b) is new"),
        (start(part("a", sha256="b")), "the file of a has changed: a.py"),
        (start(part("a", target="own:B")), "a is own:B, and was own:a"),
    ],
)
def test_what_differs_is_told(now: dict[str, Any], line: str) -> None:
    assert differences(start(part("a")), now) == [line]


def test_equal_starts_do_not_differ() -> None:
    assert differences(start(part("a")), start(part("a"), started="later")) == []


def test_a_new_version_of_a_package_is_told_once_and_not_by_its_files() -> None:
    parts = [part(name, distribution="kit-plugin") for name in "ab"]
    newer = [part(name, distribution="kit-plugin", sha256="b") for name in "ab"]
    assert differences(start(*parts), start(*newer, packages={"kit-plugin": "2"})) == ["kit-plugin 1 -> 2"]
    assert differences(start(*parts), start(*newer)) == [
        "the file of a has changed: a.py",
        "the file of b has changed: b.py",
    ]


def test_there_are_few_lines() -> None:
    names = [f"p{number}" for number in range(50)]
    found = differences(start(), start(*map(part, names), packages={name: "1" for name in names}))
    assert len(found) == 8 and found[0].endswith("and 45 more") and found[-1] == "and 44 more"


def test_without_git_on_one_side_no_commit_is_told() -> None:
    assert differences(start(), start() | {"repository": None}) == []


@pytest.mark.parametrize("broken", [{}, {"parts": 1, "packages": [], "repository": "x"}, {"parts": [1, {}]}])
def test_a_record_that_somebody_changed_is_no_error(broken: dict[str, Any]) -> None:
    assert differences(broken, start(part("a")))
    assert differences(start(part("a")), broken)
