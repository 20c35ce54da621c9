from __future__ import annotations

from collections import OrderedDict, UserDict, namedtuple
from typing import Any

import pytest
import torch
from torch import nn

from trainkit.storage.walk import place_of_entry, walk, walk_attributes

Pair = namedtuple("Pair", ["x", "y"])


@pytest.mark.parametrize(
    ("value", "leaves"),
    [
        (3, [("", 3)]),
        ("text", [("", "text")]),
        ([], []),
        ({"a": {}, "b": [()]}, []),
        ([1, (2, [3])], [("[0]", 1), ("[1][0]", 2), ("[1][1][0]", 3)]),
        ({"a": {"b": 1}, "c": [2]}, [("a.b", 1), ("c[0]", 2)]),
        ({0: {"step": 1}, ("a", 1): 2, None: 3}, [("[0].step", 1), ("[('a', 1)]", 2), ("[None]", 3)]),
        (OrderedDict(b=1, a=2), [("b", 1), ("a", 2)]),
        (UserDict(a=Pair(1, 2)), [("a[0]", 1), ("a[1]", 2)]),
        ({"a": {1}}, [("a", {1})]),
        ([b"ab", range(2)], [("[0]", b"ab"), ("[1]", range(2))]),
    ],
)
def test_every_leaf_comes_in_order_with_its_place(value: Any, leaves: list[tuple[str, Any]]) -> None:
    assert list(walk(value)) == leaves


def test_a_tensor_is_a_leaf() -> None:
    tensor = torch.ones(2, 2)
    [(place, leaf)] = walk({"state": {0: [tensor]}})
    assert place == "state[0][0]" and leaf is tensor


def test_places_begin_where_the_value_is() -> None:
    assert list(walk({"a": [1], 2: 3}, "loops")) == [("loops.a[0]", 1), ("loops[2]", 3)]


def test_what_is_held_twice_comes_twice() -> None:
    held = [1]
    assert list(walk({"a": held, "b": held})) == [("a[0]", 1), ("b[0]", 1)]


def test_what_is_not_entered_is_a_leaf() -> None:
    value = {"a": [1], "b": {2}}
    assert list(walk(value, enters=lambda item: isinstance(item, dict | set))) == [("a", [1]), ("b[0]", 2)]


def test_keys_come_before_their_values() -> None:
    assert list(walk({"a": 1, (2, 3): 4}, "x", with_keys=True)) == [
        ("the key x.a", "a"),
        ("x.a", 1),
        ("the key x[(2, 3)][0]", 2),
        ("the key x[(2, 3)][1]", 3),
        ("x[(2, 3)]", 4),
    ]


def test_places_of_entries_can_be_named_otherwise() -> None:
    assert list(walk({"a": {"b": [1]}}, place_of=lambda key, place: f"{place}/{key}")) == [("/a/b[0]", 1)]


def test_attributes_are_walked_through_without_what_torch_keeps_of_a_module():
    module = nn.Linear(1, 1)
    module.plain = {"a": [1, (2,)], "long": [0] * 1001}
    module.plain["itself"] = module.plain
    found = {place: leaf for place, leaf in walk_attributes(module, "m") if "plain" in place}
    assert found.pop("m.plain.long") == [0] * 1001
    assert found.pop("m.plain.itself") is module.plain
    assert found == {"m.plain.a[0]": 1, "m.plain.a[1][0]": 2}
    assert not any(isinstance(leaf, nn.Parameter) for _, leaf in walk_attributes(module))


def test_a_place_is_of_one_line() -> None:
    assert place_of_entry("a\n\x1b[2J", "at") == r"at.a\n\x1b[2J"
    assert place_of_entry("a\n", "") == r"a\n"
    assert place_of_entry(("a\n",), "at") == r"at[('a\n',)]"
