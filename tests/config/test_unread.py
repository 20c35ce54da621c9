from __future__ import annotations

from typing import Any

import pytest

from trainkit.config import read
from trainkit.config.unread import unread_values


@pytest.mark.parametrize(
    ("shared", "written", "unread"),
    [
        ({"width": 3}, "${shared.width}", []),
        ({"width": 3, "depth": 2}, "${shared.width}", ["shared.depth"]),
        ({"width": 3, "depth": 2}, "nothing", ["shared.width", "shared.depth"]),
        ({"sizes": [1, 2], "more": [3]}, "${shared.sizes}", ["shared.more[0]"]),
        ({"sizes": [1, 2]}, "${shared.sizes[1]}", ["shared.sizes[0]"]),
        ({"net": {"width": 3, "depth": 2}}, "${shared.net}", []),
        ({"net": {"width": 3, "depth": 2}}, "n${shared.net.width}-${shared.net.depth}", []),
        ({"width": 3, "twice": "${.width}"}, "${shared.twice}", []),
        ({"width": 3, "widths": 4}, "${shared.widths}", ["shared.width"]),
        ({"a": 1, "b": 2, "which": "a"}, "${shared.${shared.which}}", []),
        ({"seed": 1}, "${oc.env:HOME}", ["shared.seed"]),
    ],
)
def test_values_to_which_nothing_refers(shared: dict[str, Any], written: str, unread: list[str]) -> None:
    sections = {"shared": shared, "module": {"_target_": "trainkit.testing.TinyModule", "name": written}}
    assert unread_values(sections) == unread
    assert unread_values({"module": {}}) == []


def test_a_configuration_knows_them(write_config: Any) -> None:
    path = write_config("shared: {width: 3, depth: 2}\nmodule: {_target_: a.B, width: '${shared.width}'}")
    assert read(path).unread == ("shared.depth",)
    assert read(path, ["~shared.depth"]).unread == ()
