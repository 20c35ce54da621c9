from __future__ import annotations

from collections import OrderedDict, UserDict, defaultdict, deque, namedtuple
from dataclasses import dataclass, field
from typing import Any

import pytest
import torch
from torch.nn.utils.rnn import pack_sequence

from trainkit.batch.nested import map_leaves, map_tensors

Pair = namedtuple("Pair", ["first", "second"])


@dataclass(frozen=True)
class Frozen:
    x: Any
    label: str = "label"


@dataclass(slots=True)
class Slotted:
    x: Any
    made: str = field(init=False, default="made")


class Movable:
    def to(self, device):
        return self


class Steps(list):
    pass


ONE = torch.ones(2)

NESTINGS = {
    "tuple": (lambda leaf: (leaf, 1), lambda value: value[0]),
    "list": (lambda leaf: [leaf, "text"], lambda value: value[0]),
    "list subclass": (lambda leaf: Steps([leaf]), lambda value: value[0]),
    "deque": (lambda leaf: deque([1, leaf], maxlen=2), lambda value: value[1]),
    "dict": (lambda leaf: {"x": leaf, "n": None}, lambda value: value["x"]),
    "ordered dict": (lambda leaf: OrderedDict(b=1, a=leaf), lambda value: value["a"]),
    "default dict": (lambda leaf: defaultdict(list, x=leaf), lambda value: value["x"]),
    "mapping": (lambda leaf: UserDict(x=leaf), lambda value: value["x"]),
    "namedtuple": (lambda leaf: Pair(leaf, 2.0), lambda value: value.first),
    "frozen dataclass": (lambda leaf: Frozen(leaf), lambda value: value.x),
    "slotted dataclass": (lambda leaf: Slotted(leaf), lambda value: value.x),
    "deep": (lambda leaf: {"a": [(Pair(1, Frozen(leaf)),)]}, lambda value: value["a"][0][0].second.x),
    "bare": (lambda leaf: leaf, lambda value: value),
}


@pytest.mark.parametrize("nesting", NESTINGS)
def test_tensors_are_reached_and_the_containers_keep_their_type(nesting):
    wrap, leaf_of = NESTINGS[nesting]
    given = wrap(ONE)
    doubled = map_tensors(lambda tensor: tensor * 2, given)
    assert type(doubled) is type(given)
    assert torch.equal(leaf_of(doubled), ONE * 2)
    assert torch.equal(leaf_of(given), ONE), "what was passed must stay as it was"


@pytest.mark.parametrize("nesting", NESTINGS)
def test_where_nothing_changes_the_same_object_comes_back(nesting):
    given = NESTINGS[nesting][0](ONE)
    assert map_leaves(lambda leaf: leaf, given) is given


def test_order_and_default_factory_survive():
    assert list(map_tensors(lambda tensor: tensor * 2, OrderedDict(b=1, a=ONE, c=2))) == ["b", "a", "c"]
    assert map_tensors(lambda tensor: tensor * 2, defaultdict(list, x=ONE))["missing"] == []


def test_objects_that_can_move_are_leaves_before_they_are_containers():
    packed = pack_sequence([torch.ones(3), torch.ones(1)])
    seen = []
    map_leaves(seen.append, [packed, Movable(), Movable, "text", 3])
    assert seen[0] is packed
    assert [type(leaf).__name__ for leaf in seen] == ["PackedSequence", "Movable"]


def test_other_leaves_are_left_alone_when_tensors_are_mapped():
    movable = Movable()
    assert map_tensors(lambda tensor: tensor * 2, [movable])[0] is movable


def test_a_container_can_be_declared_a_leaf():
    result = map_leaves(sum, {"column": [1, 2], "x": (3, [4])}, is_leaf=lambda value: isinstance(value, list))
    assert result == {"column": 3, "x": (3, 4)}
