from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.storage.sharded.spoiling import write_manifest
from trainkit.storage.archive import ArchiveError
from trainkit.storage.sharded.manifest import Manifest, read_manifest
from trainkit.storage.sharded.names import MANIFEST

DIGEST = "0" * 64
SHARD = "__0_0.distcp"


def part(size: int = 1000) -> Any:
    return {"bytes": size, "sha256": DIGEST}


def chunk(offsets: list[int], sizes: list[int], number: int) -> Any:
    return {"offsets": offsets, "sizes": sizes, "file": SHARD, "part": number}


def files(parts: int = 8) -> Any:
    return {"state.pt": [part()], ".metadata": [part()], SHARD: [part()] * parts}


def manifest(shape: list[int], *chunks: Any, dtype: str = "torch.float32") -> Manifest:
    return Manifest(files(), {"a": {"dtype": dtype, "shape": shape, "chunks": [*chunks]}})


@pytest.mark.parametrize(
    ("shape", "chunks"),
    [
        ([], [chunk([], [], 0)]),
        ([0, 3], []),
        ([5], [chunk([3], [2], 0), chunk([0], [3], 1)]),
        ([4, 3], [chunk([0, 0], [4, 1], 0), chunk([0, 1], [4, 2], 1)]),
        ([2, 2], [chunk([row, column], [1, 1], 2 * row + column) for row in (0, 1) for column in (0, 1)]),
    ],
)
def test_chunks_make_up_a_tensor(tmp_path: Path, shape: list[int], chunks: list[Any]) -> None:
    made = manifest(shape, *chunks)
    (tmp_path / MANIFEST).write_bytes(made.as_bytes())
    assert read_manifest(tmp_path) == made


@pytest.mark.parametrize(
    ("shape", "chunks"),
    [
        ([], []),
        ([5], [chunk([0], [3], 0)]),
        ([5], [chunk([0], [3], 0), chunk([2], [3], 1)]),
        ([5], [chunk([0], [5], 0), chunk([0], [5], 1)]),
        ([5], [chunk([0], [5], 0), chunk([2], [3], 1)]),
        ([5], [chunk([0], [5], 0), chunk([5], [0], 1)]),
        ([5], [chunk([0], [6], 0)]),
        ([5], [chunk([0, 0], [5, 1], 0)]),
        ([0], [chunk([0], [0], 0)]),
        ([2, 2], [chunk([0, 0], [1, 2], 0), chunk([1, 0], [1, 1], 1)]),
        ([2, 2], [chunk([0, 0], [2, 1], 0), chunk([0, 0], [2, 1], 1)]),
    ],
)
def test_chunks_with_gaps_or_within_one_another_are_refused(shape: list[int], chunks: list[Any]) -> None:
    with pytest.raises(ArchiveError, match="do not make up a tensor"):
        manifest(shape, *chunks)


def test_a_tensor_takes_no_more_memory_than_there_are_bytes() -> None:
    with pytest.raises(ArchiveError, match="is more than was saved"):
        manifest([251], chunk([0], [251], 0))
    with pytest.raises(ArchiveError, match="is more than was saved"):
        manifest([2], chunk([0], [1], 0), chunk([1], [1], 0))
    with pytest.raises(ArchiveError, match="there is no tensor such as"):
        manifest([2**31] * 3)
    with pytest.raises(ArchiveError, match="there is no tensor such as"):
        manifest([1], chunk([0], [1], 0), dtype="os.system")


@pytest.mark.parametrize("name", ["../x", "/etc/hostname", "notes", MANIFEST])
def test_a_name_leads_nowhere_else(name: str) -> None:
    with pytest.raises(ArchiveError, match="it names a file"):
        Manifest({**files(), name: [part()]}, {})


def test_parts_that_are_nowhere() -> None:
    for wrong in ({"part": 8}, {"file": "__1_0.distcp"}, {"file": "state.pt"}):
        with pytest.raises(ArchiveError, match="is nowhere"):
            manifest([1], {**chunk([0], [1], 0), **wrong})
    with pytest.raises(ArchiveError, match=r"it has no state\.pt"):
        Manifest({".metadata": [part()]}, {})


def test_where_parts_are() -> None:
    made = Manifest({**files(), SHARD: [part(3), part(4)]}, {})
    assert [made.offset_of(SHARD, number) for number in (0, 1)] == [0, 3]
    assert made.size_of(SHARD) == 7


def test_each_byte_of_it_counts(tmp_path: Path) -> None:
    written = manifest([5], chunk([0], [5], 0)).as_bytes()
    for at in range(len(written)):
        spoiled = bytearray(written)
        spoiled[at] ^= 1
        (tmp_path / MANIFEST).write_bytes(spoiled)
        with pytest.raises(ArchiveError, match="does not match its digest"):
            read_manifest(tmp_path)


@pytest.mark.parametrize("content", [{}, {"format": 1}, {"format": 1, "files": [], "tensors": {}}])
def test_another_content_is_refused(tmp_path: Path, content: Any) -> None:
    write_manifest(tmp_path, {**content, "x": 1})
    with pytest.raises(ArchiveError, match="is damaged"):
        read_manifest(tmp_path)


def test_a_later_form_is_refused(tmp_path: Path) -> None:
    write_manifest(tmp_path, {"format": 2, "files": files(), "tensors": {}})
    with pytest.raises(ArchiveError, match="later version"):
        read_manifest(tmp_path)
