from __future__ import annotations

import dataclasses
import enum
import random
from collections import Counter, OrderedDict, defaultdict, deque, namedtuple
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from trainkit.errors import CheckpointError
from trainkit.storage.files import read_checkpoint, write_checkpoint
from trainkit.storage.plain import LEAVES
from trainkit.storage.storable import check_storable, conflicting_views, find_unstorable
from trainkit.testing import assert_same_state
from trainkit.types import Phase

Point = namedtuple("Point", "x y")


@dataclasses.dataclass
class Settings:
    lr: float = 0.1


class Colour(enum.Enum):
    RED = 1


def optimizer_state() -> dict[str, Any]:
    weight = nn.Parameter(torch.zeros(3))
    optimizer = torch.optim.AdamW([weight], lr=0.1)
    weight.sum().backward()
    optimizer.step()
    scheduler = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=1.0, total_steps=10)
    return {"optimizer": optimizer.state_dict(), "scheduler": scheduler.state_dict()}


STORABLE = {
    "numbers": [1, 2**100, 1.5, float("inf"), True, None, 1 + 2j],
    "text": ["a", b"b", ("c",), {"d"}, {1: "e", (2, 3): "f", None: "g"}],
    "dicts": [OrderedDict(a=1), Counter("aab")],
    "torch": [torch.float32, torch.device("cpu"), torch.Size([2, 3]), torch.get_rng_state()],
    "tensors": [
        torch.zeros(2),
        nn.Parameter(torch.ones(2)),
        torch.zeros(2, dtype=torch.bfloat16),
        nn.Buffer(torch.ones(1)),
    ],
    "module": nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2)).state_dict(),
    "random": random.getstate(),
    "optimization": optimizer_state(),
}


@pytest.mark.parametrize("name", STORABLE)
def test_what_is_called_storable_comes_back(name: str) -> None:
    value = STORABLE[name]
    assert find_unstorable(value) == []
    buffer = BytesIO()
    torch.save(value, buffer)
    buffer.seek(0)
    assert_same_state(torch.load(buffer, weights_only=True), value)


@pytest.mark.parametrize(
    "value",
    [
        np.float32(1.0),
        np.int64(1),
        np.bool_(True),
        np.zeros(2),
        np.dtype("float32"),
        frozenset({1}),
        deque([1]),
        defaultdict(int),
        Point(1, 2),
        Settings(),
        Colour.RED,
        Phase.TRAIN,
        Path("x"),
        range(3),
        slice(3),
        int,
        print,
        nn.Linear(1, 1),
        lambda: None,
    ],
    ids=lambda value: type(value).__name__,
)
def test_what_would_not_load_is_found(value: Any) -> None:
    assert find_unstorable({"callbacks": {"EMA": [0, {"x": value}]}}) == [("callbacks.EMA[1].x", type(value))]


PLAIN = [
    *(value for value in vars(torch).values() if isinstance(value, torch.dtype | torch.layout | torch.qscheme)),
    *(bytearray(), bytearray(b"a"), bytearray(range(256)), b"a", 2**2000, -1, 1j, "", None, torch.device("cuda:1")),
    *(torch.zeros(2), nn.Parameter(torch.zeros(2))),
]


def test_no_plain_value_is_saved_to_find_out_whether_it_can_be(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "save", None)
    assert {type(value) for value in PLAIN} == LEAVES - {bool, float}
    assert find_unstorable(PLAIN) == []


def test_every_plain_value_can_be_read(tmp_path: Path) -> None:
    write_checkpoint({"plain": PLAIN}, tmp_path / "a.ckpt")
    loaded = read_checkpoint(tmp_path / "a.ckpt")["plain"]
    assert [type(value) for value in loaded] == [type(value) for value in PLAIN]
    assert loaded[:-2] == PLAIN[:-2]


def test_an_attribute_of_a_tensor_counts() -> None:
    weight = torch.zeros(2)
    weight.origin = Path("x")  # type: ignore[attr-defined]
    assert find_unstorable({"weight": weight}) == [("weight", torch.Tensor)]


def test_keys_count() -> None:
    assert find_unstorable({"scores": {Path("a"): 1}}) == [("the key scores[PosixPath('a')]", type(Path("a")))]


def test_everything_wrong_is_named_at_once() -> None:
    with pytest.raises(CheckpointError) as caught:
        check_storable({"hyper_parameters": {"root": Path("x"), "lr": 0.1}, "callbacks": {"mine": np.float64(2)}})
    message = str(caught.value)
    assert "hyper_parameters.root: pathlib." in message
    assert "callbacks.mine: numpy.float64" in message
    assert "lr" not in message.replace("hyper", "")


def test_a_container_within_itself_ends() -> None:
    loop: list[Any] = [Path("x")]
    loop.append(loop)
    assert [place for place, _ in find_unstorable(loop, "loop")] == ["loop[0]"]


class Unspeakable:
    def __repr__(self) -> str:
        raise ValueError("no")


def freed() -> torch.Tensor:
    """A tensor whose memory was given back, as sharded training does."""
    tensor = torch.ones(3)
    tensor.untyped_storage().resize_(0)
    return tensor


def counter_with_attribute() -> Counter[str]:
    counter = Counter("aa")
    counter.note = 1  # type: ignore[attr-defined]
    return counter


@pytest.mark.parametrize(
    ("value", "told"),
    [
        (freed(), "x: torch.Tensor .*has no memory"),
        (counter_with_attribute(), "x: collections.Counter with attributes, which pickle forgets"),
        (nn.LazyLinear(1).state_dict(), "x.weight: .*UninitializedParameter"),
        ({Unspeakable(): 1}, r"the key x\[a Unspeakable\]: .*Unspeakable"),
    ],
    ids=["freed", "Counter", "lazy", "key"],
)
def test_what_would_come_back_otherwise_is_named(value: Any, told: str) -> None:
    with pytest.raises(CheckpointError, match=told):
        check_storable({"x": value})


def test_views_of_one_memory_as_two_types_are_named(tmp_path: Path) -> None:
    whole = torch.ones(2)
    with pytest.raises(
        CheckpointError, match=r"b\[0\] is a view as torch.int32 of what a has as torch.float32; save a clone"
    ):
        write_checkpoint({"a": whole, "b": [whole.view(torch.int32)]}, tmp_path / "a.ckpt")


def test_what_torch_cannot_write_is_told_as_such(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="cannot be written: torch says: .*int4"):
        write_checkpoint({"a": torch.empty(2, dtype=torch.int4)}, tmp_path / "a.ckpt")


def test_tensors_within_a_transformation_of_functions_are_refused() -> None:
    def save(tensor: torch.Tensor) -> torch.Tensor:
        with pytest.raises(CheckpointError, match="no memory of its own"):
            check_storable({"x": tensor})
        return tensor

    torch.func.vmap(save)(torch.ones(2))


def test_tensors_without_data_are_no_views_of_one_memory():
    assert conflicting_views({"a": torch.zeros(0), "b": torch.zeros(0, dtype=torch.int32)}) == ""
    whole = torch.zeros(2)
    assert "b is a view as torch.int32" in conflicting_views({"a": whole, "b": whole.view(torch.int32)})
