from __future__ import annotations

import os
import random
import zipfile
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from trainkit.checkpoint.diff import differences
from trainkit.checkpoint.head import read_head
from trainkit.errors import CheckpointError
from trainkit.storage.files import read_checkpoint, write_checkpoint
from trainkit.storage.plain import MAX_DEPTH, excess


class Acts:
    """Comes back as the result of a call."""

    def __init__(self, function: Callable[..., Any], *arguments: Any) -> None:
        self.call = function, arguments

    def __reduce__(self) -> Any:
        return self.call


class Owned(torch.Tensor):
    """A class of a library's own."""


@pytest.fixture
def trusting() -> Iterator[None]:
    """A library has told torch that its own class, and ``exec``, are harmless."""
    with torch.serialization.safe_globals([exec, eval, getattr, Owned]):
        yield


@pytest.mark.usefixtures("trusting")
def test_what_a_library_allows_does_not_count(tmp_path: Path) -> None:
    torch.save({"state_dict": {}, "x": Acts(exec, "import os; os.environ['ACTED'] = '1'")}, tmp_path / "a.ckpt")
    torch.save({"state_dict": {"w": torch.zeros(2).as_subclass(Owned)}}, tmp_path / "b.ckpt")
    for name, wanted in (("a", r"builtin.*\.exec"), ("b", r"test_plain\.Owned")):
        with pytest.raises(CheckpointError, match=f"refused: loading it would run code .*{wanted}"):
            read_checkpoint(tmp_path / f"{name}.ckpt")
    with pytest.raises(CheckpointError, match="cannot hold\n    w: .*Owned"):
        write_checkpoint({"w": torch.zeros(2).as_subclass(Owned)}, tmp_path / "c.ckpt")


@pytest.mark.filterwarnings("ignore:Sparse", "ignore:torch.quantize", "ignore:TypedStorage")
@pytest.mark.usefixtures("trusting")
def test_plain_data_is_read_whatever_a_library_allows(tmp_path: Path) -> None:
    data = {
        "tensors": [torch.zeros(2), torch.ones(1, dtype=torch.bfloat16), torch.nn.Parameter(torch.ones(1))],
        "layouts": [torch.eye(2).to_sparse(), torch.eye(2).to_sparse_csr(), torch.zeros(1, device="meta")],
        "quantized": torch.quantize_per_tensor(torch.ones(2), 0.1, 0, torch.qint8),
        "torch": [torch.float16, torch.strided, torch.Size([1]), torch.device("cpu")],
        "python": [OrderedDict(a=1), Counter("aa"), {1}, b"b", 1j, 2**100, bytearray(b"c")],
    }
    write_checkpoint(data, tmp_path / "a.ckpt")
    assert read_checkpoint(tmp_path / "a.ckpt").keys() == data.keys()


def repeated(levels: int) -> list[Any]:
    """A list of two lists, which are one, and so on: 2**levels entries in a few bytes."""
    value: list[Any] = [0]
    for _ in range(levels):
        value = [value, value]
    return value


def nested(levels: int) -> Any:
    value: Any = 0
    for _ in range(levels):
        value = (value,)
    return value


def cyclic() -> list[Any]:
    value: list[Any] = [{}]
    value[0]["self"] = value
    return value


def deep_by_sharing() -> list[Any]:
    """Chains that are short, each of which ends in the one before it."""
    chains: list[Any] = []
    for _ in range(50):
        chain = list(chains[-1:])
        for _ in range(MAX_DEPTH // 2):
            chain = [chain]
        chains.append(chain)
    return chains


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (repeated(40), "in several places"),
        (nested(MAX_DEPTH + 1), "lie in one another"),
        (nested(500), "lie in one another"),
        ({nested(MAX_DEPTH + 1): 0}, "lie in one another"),
        (cyclic(), "holds itself"),
        (torch.zeros(1).expand(2**40), "more bytes than there are"),
        (torch.zeros(1, dtype=torch.float64).expand(2**61), "more bytes than there are"),
        (deep_by_sharing(), "lie in one another"),
    ],
    ids=["repeated", "deep", "deeper", "deep key", "cyclic", "expanded", "expanded beyond numbers", "deep by sharing"],
)
def test_what_goes_beyond_the_limits_is_neither_read_nor_written(value: Any, message: str, tmp_path: Path) -> None:
    torch.save({"state_dict": {}, "x": value}, tmp_path / "a.ckpt")
    with pytest.raises(CheckpointError, match=f"is refused: .*{message}"):
        read_checkpoint(tmp_path / "a.ckpt")
    with pytest.raises(CheckpointError, match=f"could be written and not be read: .*{message}"):
        write_checkpoint({"x": value}, tmp_path / "b.ckpt")
    assert not (tmp_path / "b.ckpt").exists()


def with_attributes(value: Any, **attributes: Any) -> Any:
    value.__dict__.update(attributes)
    return value


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (with_attributes(OrderedDict(a=1), get=5), "the 'get' of an OrderedDict is not its own"),
        (with_attributes(OrderedDict(a=repeated(40)), note=1), "in several places"),
        (with_attributes(OrderedDict(), note=repeated(40)), "in several places"),
        (with_attributes(torch.ones(1), numel=5), "the 'numel' of a Tensor is not its own"),
        (with_attributes(OrderedDict(), __array_interface__={}), "the '__array_interface__' of an OrderedDict is not"),
        (
            with_attributes(torch.ones(1), __array_interface__={}),
            "the '__array_interface__' of a Tensor is not its own",
        ),
        (with_attributes(torch.ones(1), _is_param=True), "the '_is_param' of a Tensor is not its own"),
        (with_attributes(OrderedDict(), _metadata=5), "the '_metadata' of an OrderedDict is not its own"),
        (with_attributes(torch.ones(1), note=cyclic()), "holds itself"),
        (with_attributes(torch.nn.Parameter(torch.ones(1)), note=nested(200)), "lie in one another"),
        (with_attributes(torch.ones(1), note=torch.zeros(1).expand(2**40)), "more bytes than there are"),
        ([torch.zeros(1).expand(2**26) for _ in range(6)], "more bytes than there are"),
    ],
    ids=[
        *(
            "method",
            "with an attribute",
            "in an attribute",
            "tensor",
            "interface",
            "interface of a tensor",
            "parameter",
        ),
        *("versions", "cyclic of a tensor", "deep of a parameter", "expanded of a tensor", "many views"),
    ],
)
def test_no_attribute_hides_what_is_in_a_value(value: Any, message: str, tmp_path: Path) -> None:
    torch.save({"state_dict": {}, "x": value}, tmp_path / "a.ckpt")
    assert not read_head(tmp_path / "a.ckpt").readable
    with pytest.raises(CheckpointError, match=f"is refused: .*{message}"):
        read_checkpoint(tmp_path / "a.ckpt")
    with pytest.raises(CheckpointError, match=f"could be written and not be read: .*{message}"):
        write_checkpoint({"x": value}, tmp_path / "b.ckpt")


def test_the_state_of_a_module_has_an_attribute() -> None:
    assert excess(torch.nn.Linear(1, 1).state_dict(), 0) == ""


@pytest.mark.usefixtures("trusting")
def test_a_part_whose_name_is_written_otherwise_is_not_taken_for_another(tmp_path: Path) -> None:
    torch.save({"state_dict": {}, "x": Acts(exec, "import os; os.environ['ACTED'] = '2'")}, tmp_path / "a.ckpt")
    with zipfile.ZipFile(tmp_path / "a.ckpt") as old, zipfile.ZipFile(tmp_path / "b.ckpt", "w") as new:
        for part in old.infolist():
            new.writestr(part.filename.replace("data.pkl", "data.PKL"), old.read(part))
    with pytest.raises(CheckpointError, match="no part data.pkl"):
        read_checkpoint(tmp_path / "b.ckpt")
    assert not read_head(tmp_path / "b.ckpt").readable
    assert os.environ.get("ACTED") is None


def test_ordinary_repetition_is_within_the_limits() -> None:
    shared = {"lr": 0.1, "betas": (0.9, 0.999)}
    assert excess({"groups": [shared] * 1000, "indices": list(range(100_000)), "deep": nested(50)}, 0) == ""


# Values made by chance

LEAVES: list[Callable[[random.Random], Any]] = [
    lambda chance: chance.choice([None, True, -1, 2 ** chance.randrange(2100), 1.5, float("nan"), 1j]),
    lambda chance: chance.choice(["", "a\ud800", "x" * 300, b"", b"\0\xff", bytearray(), bytearray(b"a")]),
    lambda chance: torch.zeros(chance.choice([(), (0,), (2, 3)]), dtype=chance.choice([torch.int8, torch.float64])),
    lambda chance: torch.nn.Parameter(torch.ones(2), requires_grad=chance.random() < 0.5),
    lambda chance: torch.arange(6.0)[:: chance.choice([1, 2])].view(-1, 1).expand(-1, 3),
    lambda chance: chance.choice([torch.eye(2).to_sparse(), torch.eye(2).to_sparse_csr(), torch.zeros(1).conj()]),
    lambda chance: chance.choice([torch.zeros(2, device="meta"), torch.zeros(2, dtype=torch.complex64).conj()]),
    lambda chance: torch.nested.nested_tensor([torch.zeros(1), torch.zeros(2)]),
    lambda chance: chance.choice([torch.float8_e4m3fn, torch.device("cuda:1"), torch.strided, torch.Size([2])]),
    lambda chance: chance.choice([frozenset(), range(2), object(), int, Path("x"), torch.Generator()]),
    lambda chance: Owned([1.0]),
]


def draw(chance: random.Random, depth: int = 3) -> Any:
    kind = chance.randrange(8) if depth else 7
    inner = [draw(chance, depth - 1) for _ in range(chance.randrange(4))] if kind < 7 else []
    if kind == 0:
        return OrderedDict((str(index), value) for index, value in enumerate(inner))
    if kind == 1:
        ordered = OrderedDict(a=1)
        ordered.note = inner  # type: ignore[attr-defined]
        return ordered
    if kind == 2:
        return tuple(inner)
    if kind == 3:
        return {index: value for index, value in enumerate(inner)}
    if kind == 4:
        return {value for value in (1, "a", (2,))[: len(inner)]}
    if kind == 5:
        return Counter({"a": len(inner)})
    if kind == 6:
        return inner * 2
    return chance.choice(LEAVES)(chance)


@pytest.mark.usefixtures("trusting")
@pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors", "ignore:Sparse CSR")
@pytest.mark.parametrize("seed", range(25))
def test_what_is_written_can_be_read(tmp_path: Path, seed: int) -> None:
    chance = random.Random(seed)
    for _ in range(20):
        value = {"x": draw(chance)}
        try:
            write_checkpoint(value, tmp_path / "a.ckpt")
        except CheckpointError:
            continue
        loaded = read_checkpoint(tmp_path / "a.ckpt")
        assert not list(differences(value, loaded)), value
