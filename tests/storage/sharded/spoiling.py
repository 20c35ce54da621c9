"""Sharded checkpoints that were spoiled: by an accident, or by somebody who has made the digests right again."""

from __future__ import annotations

import hashlib
import json
import os
import pickle
import random
import shutil
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import Any

import torch

from trainkit.storage.archive import seal
from trainkit.storage.sharded.names import MANIFEST, METADATA, STATE

END_BYTES = 78


class Hostile:
    """Touches a file when it is unpickled."""

    def __reduce__(self) -> Any:
        return os.system, ("touch acted",)


def content_of(folder: Path) -> dict[str, Any]:
    """Return what is in the manifest."""
    found: dict[str, Any] = json.loads((folder / MANIFEST).read_bytes()[:-END_BYTES] + b"}")
    return found


def write_manifest(folder: Path, content: Any) -> None:
    """Write a manifest whose own digest is right."""
    body = json.dumps(content, separators=(",", ":"))[:-1].encode()
    digest = hashlib.sha256(body).hexdigest().encode()
    (folder / MANIFEST).write_bytes(body + b',"sha256":"%s"}\n' % digest)


def replace_file(folder: Path, name: str, data: bytes) -> None:
    """Replace a file of one part, and make its digest right."""
    (folder / name).write_bytes(data)
    content = content_of(folder)
    content["files"][name] = [{"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}]
    write_manifest(folder, content)


def replace_part(folder: Path, name: str, number: int, data: bytes) -> None:
    """Replace a part of a file, and make its digest right."""
    content = content_of(folder)
    parts = content["files"][name]
    start = sum(part["bytes"] for part in parts[:number])
    old = (folder / name).read_bytes()
    (folder / name).write_bytes(old[:start] + data + old[start + parts[number]["bytes"] :])
    parts[number] = {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
    write_manifest(folder, content)


def saved(value: Any) -> bytes:
    """Return what ``torch.save`` writes of a value."""
    buffer = BytesIO()
    torch.save(value, buffer)
    return buffer.getvalue()


def files_in(folder: Path) -> list[str]:
    return sorted(entry.name for entry in folder.iterdir())


def shards_in(folder: Path) -> list[str]:
    return [name for name in files_in(folder) if name.endswith(".distcp")]


# Accidents: what is read afterwards is what was saved, or nothing.


def flip(folder: Path, other: Path, chance: random.Random) -> str:
    name = chance.choice(files_in(folder))
    data = bytearray((folder / name).read_bytes())
    at = chance.randrange(len(data))
    data[at] ^= 1 << chance.randrange(8)
    (folder / name).write_bytes(data)
    return f"a bit of {name} at {at}"


def cut(folder: Path, other: Path, chance: random.Random) -> str:
    name = chance.choice(files_in(folder))
    data = (folder / name).read_bytes()
    (folder / name).write_bytes(data[: chance.randrange(len(data))])
    return f"{name} cut off"


def lengthen(folder: Path, other: Path, chance: random.Random) -> str:
    name = chance.choice(files_in(folder))
    with open(folder / name, "ab") as file:
        file.write(chance.randbytes(chance.randrange(1, 100)))
    return f"{name} longer"


def lose(folder: Path, other: Path, chance: random.Random) -> str:
    name = chance.choice(files_in(folder))
    (folder / name).unlink()
    return f"without {name}"


def mix(folder: Path, other: Path, chance: random.Random) -> str:
    name = chance.choice(files_in(folder))
    shutil.copy(other / name, folder / name)
    return f"{name} of another save"


def exchange(folder: Path, other: Path, chance: random.Random) -> str:
    one, two = shards_in(folder)[:2]
    (folder / one).rename(folder / "x")
    (folder / two).rename(folder / one)
    (folder / "x").rename(folder / two)
    return f"{one} and {two} exchanged"


def pipe(folder: Path, other: Path, chance: random.Random) -> str:
    name = chance.choice(files_in(folder))
    (folder / name).unlink()
    os.mkfifo(folder / name)
    return f"{name} is a pipe"


# Somebody's work: nothing of it may act, nor take what memory and time there are.


def metadata_acts(folder: Path, other: Path, chance: random.Random) -> str:
    replace_file(folder, METADATA, pickle.dumps(Hostile(), protocol=chance.choice((2, 4))))
    return f"{METADATA} runs code"


def part_acts(folder: Path, other: Path, chance: random.Random) -> str:
    name = chance.choice(shards_in(folder))
    data = chance.choice((saved(Hostile()), pickle.dumps(Hostile()), saved({"x": Hostile()})))
    replace_part(folder, name, chance.randrange(len(content_of(folder)["files"][name])), data)
    return f"a part of {name} runs code"


def part_differs(folder: Path, other: Path, chance: random.Random) -> str:
    name = chance.choice(shards_in(folder))
    value = chance.choice(
        (3, [], None, torch.zeros(2), torch.zeros(1).expand(10**6), torch.zeros(7, device="meta"), torch.zeros(0))
    )
    replace_part(folder, name, chance.randrange(len(content_of(folder)["files"][name])), saved(value))
    return f"a part of {name} is {type(value).__name__}"


def state_acts(folder: Path, other: Path, chance: random.Random) -> str:
    replace_file(folder, STATE, saved(Hostile()))
    return f"{STATE} runs code"


WRONG: list[Any] = [
    *(None, True, -1, 0, 1, 7, 2**53, 2**64, 10**400, 0.5, "", "x", "../x", "/etc/hostname", "__0_0.distcp", STATE),
    *([], [1], [2**40, 2**40], {}, {"x": 1}, [[]] * 3, "torch.float64", "\ud800"),
]


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    entries = list(value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ())
    found = [(*path, key) for key, _ in entries]
    return found + [place for key, entry in entries for place in places(entry, (*path, key))]


def manifest_differs(folder: Path, other: Path, chance: random.Random) -> str:
    content = content_of(folder)
    place = chance.choice(places(content))
    holder: Any = content
    for key in place[:-1]:
        holder = holder[key]
    wrong = chance.choice(WRONG)
    if wrong is None and chance.random() < 0.5:
        del holder[place[-1]]
    else:
        holder[place[-1]] = wrong
    write_manifest(folder, content)
    return f"{MANIFEST} has {wrong!r:.40} at {list(place)}"


def manifest_is_none(folder: Path, other: Path, chance: random.Random) -> str:
    content: Any = chance.choice(([], 3, None, "x"))
    body = (json.dumps(content) + "}")[:-1].encode()
    nested = b"[" * 100_000
    data = chance.choice((body, nested, b"", b"{}", b"\xff" * 200))
    (folder / MANIFEST).write_bytes(data + b',"sha256":"%s"}\n' % hashlib.sha256(data).hexdigest().encode())
    return f"{MANIFEST} is {data[:20]!r}"


def place_holder_differs(folder: Path, other: Path, chance: random.Random) -> str:
    state = torch.load(folder / STATE, weights_only=True)
    name = chance.choice([key for key, value in state["state_dict"].items() if getattr(value, "is_meta", False)])
    tensor = state["state_dict"][name]
    if chance.random() < 0.3:
        shape = chance.choice(((), (2**30, 2**20), (0,), (1, 1)))
        changed = torch.empty(shape, dtype=chance.choice((tensor.dtype, torch.int64)), device="meta")
        changed.__dict__.update(tensor.__dict__)
        state["state_dict"][name] = tensor = changed
    else:
        what, wrong = chance.choice(("saved_as", "placements")), chance.choice(WRONG[:20])
        setattr(tensor, what, wrong)
    buffer = BytesIO()
    torch.save(state, buffer)
    seal(buffer)
    replace_file(folder, STATE, buffer.getvalue())
    return f"the place-holder of {name} is {tuple(tensor.shape)} {tensor.__dict__}"


Spoil = Callable[[Path, Path, random.Random], str]
"""Spoils a checkpoint, and has another one at hand; returns what it has done."""

ACCIDENTS: list[Spoil] = [flip, flip, flip, cut, lengthen, lose, mix, exchange, pipe]
WORKS: list[Spoil] = [
    *(metadata_acts, part_acts, part_differs, state_acts, manifest_differs, manifest_differs, manifest_is_none),
    place_holder_differs,
]
