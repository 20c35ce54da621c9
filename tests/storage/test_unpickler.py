"""Pickles that are written by hand, as no program of Python writes them."""

from __future__ import annotations

import io
import os
import pickle
import random
import struct
import zipfile
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from trainkit.errors import CheckpointError
from trainkit.storage import unpickler
from trainkit.storage.constructors import Memory
from trainkit.storage.files import read_checkpoint
from trainkit.storage.plain import NotPlainError
from trainkit.storage.unpickler import ForeignCodeError, Unpickler


def load(pickled: bytes) -> Any:
    def memory(dtype: torch.dtype, key: str, location: str, count: int) -> Memory:
        return Memory(torch.zeros(count, dtype=dtype).untyped_storage(), dtype)

    return Unpickler(pickled, memory).load()


def text(value: str) -> bytes:
    return b"X" + struct.pack("<I", len(value)) + value.encode()


def integer(value: int) -> bytes:
    return pickle.dumps(value, 2)[2:-1]


def call(name: str, *arguments: bytes) -> bytes:
    module, _, attribute = name.rpartition(".")
    return f"c{module}\n{attribute}\n".encode() + b"(" + b"".join(arguments) + b"tR"


DOUBLED = b"(K\x01t" + b"q\x00h\x00\x86" * 60
"""A tuple of two tuples, which are one, and so on: 2**60 values."""

DEEP = b")" + b"\x85" * 100_000
"""A tuple in a tuple, and so on, deeper than the stack of a program."""

ALIKE = [integer(index * (2**61 - 1)) for index in range(20_000)]
"""Numbers of one hash, each of which has all before it to pass."""


@pytest.mark.parametrize(
    "value",
    [
        None,
        [True, False, 0, 255, 256, 65536, -1, 2**31, -(2**100), 1.5, "a\ud800é", ""],
        [(), (1,), (1, 2), (1, 2, 3), (1, 2, 3, 4), [[]], {}, {"a": {1: 2, (3, (4,)): 5, None: 6}}],
        [set(), {1, "a"}, b"\x00\xff", bytearray(b"ab"), bytearray(), 1 - 2j, OrderedDict(a=1, b=2)],
        {str(index): index for index in range(3000)},
        list(range(3000)),
    ],
    ids=["none", "scalars", "containers", "python", "dict", "list"],
)
def test_it_makes_what_was_pickled(value: Any) -> None:
    loaded = load(pickle.dumps(value, 2))
    assert loaded == value
    assert repr(loaded) == repr(value)


def test_what_is_one_stays_one() -> None:
    shared = ["a"]
    one, other, text_of_one = load(pickle.dumps([shared, shared, "a" * 50], 2))
    assert one is other
    loop: list[Any] = []
    loop.append(loop)
    loaded = load(pickle.dumps(loop, 2))
    assert loaded[0] is loaded
    assert text_of_one == "a" * 50


@pytest.mark.parametrize(
    "pickled",
    [
        b"cos\nsystem\n" + text("true") + b"\x85R.",
        b"cbuiltins\nfrozenset\n.",
        b"ios\nsystem\n.",  # INST
        b"(cos\nsystem\no.",  # OBJ
        text("os") + text("system") + b"\x93.",  # STACK_GLOBAL
        b"\x82\x01.",  # EXT1, whose meaning a program registers
        b"ccollections\nOrderedDict\n)\x81.",  # NEWOBJ
        b"ccollections\nOrderedDict\n}b.",  # BUILD of what is called
        b"]}" + text("append") + b"K\x01sb.",  # BUILD of a list
        b"ctorch\nfloat32\n)R.",  # a call of what is no function
        text("pid") + b"\x85Q.",
        b"(" + text("storage") + b"ctorch\nfloat32\n" + text("0") + text("cpu") + b"K\x01tQ.",
        b"}(K\x01K\x02d.",  # DICT
        b"p1000000000\n.",  # PUT
        b"\x96" + struct.pack("<Q", 2**40) + b".",  # BYTEARRAY8
        b"K\x01K\x02s.",  # an item of a number
        b"K\x01K\x02a.",  # an entry of a number
    ],
)
def test_what_runs_or_changes_anything_else_is_refused(pickled: bytes) -> None:
    with pytest.raises((ForeignCodeError, AttributeError, ValueError, IndexError)):
        load(pickled)


@pytest.mark.parametrize(
    "pickled",
    [
        b"}" + DOUBLED + b"K\x01s.",
        b"}(" + DOUBLED + b"K\x01u.",
        call("__builtin__.set", b"](" + DOUBLED + b"e") + b".",
        b"}" + DEEP + b"K\x01s.",
    ],
    ids=["doubled", "doubled in many", "doubled in a set", "deep"],
)
def test_keys_that_take_long_are_refused(pickled: bytes) -> None:
    with pytest.raises(NotPlainError, match="key"):
        load(pickled)


@pytest.mark.parametrize(
    "made",
    [
        b"c__builtin__\nset\nq\x01](" + b"".join(map(integer, range(1000))) + b"e\x85",
        b"ccollections\nCounter\nq\x01}(" + b"".join(integer(key) + b"N" for key in range(1000)) + b"u\x85",
        b"c_codecs\nencode\nq\x01" + text("a" * 5000) + text("latin1") + b"\x86",
    ],
    ids=["set", "Counter", "bytes"],
)
def test_arguments_serve_for_one_call(made: bytes) -> None:
    with pytest.raises(NotPlainError, match="makes more than it holds"):
        load(b"](" + made + b"q\x02R" + b"h\x01h\x02R" * 5000 + b"e.")


@pytest.mark.parametrize(
    "pickled",
    [
        b"}" + b"".join(key + b"K\x01s" for key in ALIKE) + b".",
        b"}(" + b"".join(key + b"K\x01" for key in ALIKE) + b"u.",
        call("builtins.set", b"](" + b"".join(ALIKE) + b"e") + b".",
    ],
    ids=["one by one", "at once", "in a set"],
)
def test_keys_that_all_meet_are_refused_before_they_have_taken_long(
    pickled: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(unpickler, "_MOST_S", 0.01)
    monkeypatch.setattr(unpickler, "_MOST_S_FOR_ONE", 1e-6)
    with pytest.raises(NotPlainError, match="keys are made to take long"):
        load(pickled)


def test_no_ordinary_keys_are_taken_for_such() -> None:
    keys: list[Any] = [
        *range(20_000),
        *(index * 0.37 for index in range(20_000)),
        *((index, -1) for index in range(20_000)),
    ]
    value = [dict.fromkeys(keys), set(keys), [{None: index} for index in range(10_000)]]
    assert load(pickle.dumps(value, 2)) == value


def test_attributes_are_given_once() -> None:
    names = b"}(" + b"".join(text(f"n{index}") + b"N" for index in range(1000)) + b"u"
    with pytest.raises(NotPlainError, match="makes more than it holds"):
        load(b"ccollections\nOrderedDict\n)R" + names + b"q\x02b" + b"h\x02b" * 100 + b".")


REPEATED = b"](K\x01K\x01e" + b"".join(
    b"q" + bytes([n]) + b"](h" + bytes([n]) + b"h" + bytes([n]) + b"e" for n in range(40)
)
"""A list of two lists, which are one, and so on: as text, or as the key of a dict, it would not come to an end."""


@pytest.mark.parametrize(
    "pickled",
    [
        b"(" + text("storage") + b"ctorch\nByteStorage\n" + REPEATED + text("cpu") + b"K\x01tQ.",
        b"(" + text("storage") + b"ctorch\nByteStorage\n" + text("0") + text("cpu") + REPEATED + b"tQ.",
        call("_codecs.encode", text("a"), REPEATED) + b".",
        call("torch.serialization._get_layout", REPEATED.replace(b"](", b"(").replace(b"e", b"t")) + b".",
        call("torch.device", text("cpu"), REPEATED) + b".",
    ],
)
def test_what_is_no_text_is_not_made_text(pickled: bytes) -> None:
    with pytest.raises((ForeignCodeError, NotPlainError)):
        load(pickled)


def test_the_number_of_a_memo_takes_no_memory() -> None:
    assert load(b"K\x01r\xff\xff\xff\xff0j\xff\xff\xff\xff.".replace(b"0", b"")) == 1


def test_every_pickle_that_is_cut_off_is_refused() -> None:
    whole = pickle.dumps({"a": [1, 2.5, "text", (1, 2, 3, 4)], "b": {1, 2}}, 2)
    for cut in range(len(whole)):
        with pytest.raises((ForeignCodeError, IndexError, ValueError, struct.error)):
            load(whole[:cut])


# Pickles of true checkpoints, changed by chance

INSTRUCTIONS = b"(.0125KMNQRX)]}abehjqrstu\x81\x85\x86\x87\x88\x89\x8a\x93"

CHANGES: list[Callable[[random.Random, bytearray, int], None]] = [
    lambda chance, data, at: data.__setitem__(at, chance.randrange(256)),
    lambda chance, data, at: data.insert(
        at, chance.choice(b"(.0125KMNQRX)]}abehjqrstu\x81\x85\x86\x87\x88\x89\x8a\x93")
    ),
    lambda chance, data, at: data.__delitem__(slice(at, at + chance.randrange(1, 5))),
    lambda chance, data, at: data.__setitem__(slice(at, at), data[: chance.randrange(1, 60)]),
]


@pytest.mark.parametrize("seed", range(10))
def test_a_pickle_that_is_changed_anywhere_is_read_or_refused(tmp_path: Path, seed: int) -> None:
    file = io.BytesIO()
    tensors = [
        torch.ones(2),
        torch.eye(2).to_sparse(),
        torch.nn.Parameter(torch.ones(1)),
        torch.zeros(1, device="meta"),
    ]
    torch.save({"state_dict": {}, "global_step": 3, "x": [*tensors, {1, (2, 3)}, b"abc", 1j, torch.Size([1])]}, file)
    with zipfile.ZipFile(file) as archive:
        parts = {part.filename: archive.read(part) for part in archive.infolist()}
    (name,) = (name for name in parts if name.endswith("data.pkl"))
    chance = random.Random(seed)
    for _ in range(50):
        data = bytearray(parts[name])
        chance.choice(CHANGES)(chance, data, chance.randrange(len(data)))
        with zipfile.ZipFile(tmp_path / "a.ckpt", "w") as archive:
            for part, content in (parts | {name: bytes(data)}).items():
                archive.writestr(part, content)
        try:
            read_checkpoint(tmp_path / "a.ckpt")
        except CheckpointError as error:
            assert os.fspath(tmp_path) in str(error)
