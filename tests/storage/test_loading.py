from __future__ import annotations

import io
import sys
import zipfile
from typing import Any

import pytest
import torch

from trainkit.storage.archive import Archive, ArchiveError
from trainkit.storage.loading import foreign_names, load
from trainkit.storage.plain import NotPlainError
from trainkit.storage.unpickler import ForeignCodeError


def archive(value: Any, **changed: bytes) -> Archive:
    """What torch writes, with other content in parts whose names end so."""
    file, copy = io.BytesIO(), io.BytesIO()
    torch.save(value, file)
    with zipfile.ZipFile(file) as old, zipfile.ZipFile(copy, "w") as new:
        for part in old.infolist():
            new.writestr(part.filename, changed.get(part.filename.rpartition("/")[2], old.read(part)))
    return Archive(copy)


def test_views_of_one_memory_stay_so() -> None:
    whole = torch.arange(6.0)
    loaded = load(archive([whole, whole[2:], whole.view(2, 3).T]))
    loaded[0][2] = 9
    assert (loaded[1][0], loaded[2][2, 0]) == (9, 9)


def nowhere(storage: torch.UntypedStorage, location: str) -> None:
    assert location == "cpu"


def without_data(storage: torch.UntypedStorage, location: str) -> torch.UntypedStorage:
    return torch.empty(storage.nbytes(), dtype=torch.uint8, device="meta").untyped_storage()


@pytest.mark.parametrize(
    "where", [None, "cpu", torch.device("cpu"), {"cpu": "cpu"}, nowhere, lambda storage, _: storage]
)
def test_tensors_go_where_torch_would_put_them(where: Any) -> None:
    loaded = load(archive({"a": torch.ones(2)}), where)
    assert (loaded["a"].device.type, loaded["a"].tolist()) == ("cpu", [1, 1])


@pytest.mark.parametrize("where", ["meta", {"cpu": "meta"}, without_data])
def test_they_may_be_elsewhere_than_what_was_saved(where: Any) -> None:
    assert load(archive({"a": torch.ones(2)}), where)["a"].is_meta


def test_without_values_nothing_but_their_form_is_read() -> None:
    damaged = archive({"step": 3, "a": torch.ones(2, 3), "b": torch.ones(0)})
    loaded = load(damaged, with_values=False)
    assert (loaded["step"], loaded["a"].shape, loaded["a"].sum(), loaded["b"].shape) == (3, (2, 3), 0, (0,))


def test_the_order_of_bytes_is_that_of_the_machine() -> None:
    other = {"little": b"big", "big": b"little"}[sys.byteorder]
    swapped = torch.tensor([1, 256], dtype=torch.int16)
    assert load(archive(swapped, byteorder=other)).tolist() == [256, 1]


@pytest.mark.parametrize("order", [b"Little", b"little\n", b"", b"\0" * 6])
def test_an_unknown_order_of_bytes_is_refused(order: bytes) -> None:
    with pytest.raises(NotPlainError, match="no known order"):
        load(archive(torch.ones(1), byteorder=order))


@pytest.mark.filterwarnings("ignore:Sparse")
@pytest.mark.parametrize("layout", [torch.sparse_coo, torch.sparse_csr, torch.sparse_csc, torch.sparse_bsr])
def test_the_form_of_sparse_tensors_needs_no_values(layout: torch.layout) -> None:
    value = torch.eye(4).to_sparse(layout=layout, blocksize=(2, 2) if layout is torch.sparse_bsr else None)
    formed = load(archive({"a": value}), with_values=False)["a"]
    assert (formed.shape, formed.layout) == (value.shape, value.layout)


def test_memory_is_as_long_as_what_was_saved() -> None:
    with pytest.raises(NotPlainError, match="more or less than was saved"):
        load(archive(torch.ones(2), **{"0": b"\0" * 4}))


def test_a_part_that_is_not_there_is_damage() -> None:
    file, copy = io.BytesIO(), io.BytesIO()
    torch.save(torch.ones(2), file)
    with zipfile.ZipFile(file) as old, zipfile.ZipFile(copy, "w") as new:
        for part in old.infolist():
            if not part.filename.endswith("data/0"):
                new.writestr(part.filename, old.read(part))
    with pytest.raises(ArchiveError, match="no part data/0"):
        load(Archive(copy))


def test_what_may_be_called_is_no_value() -> None:
    with pytest.raises(ForeignCodeError, match="builtins.set"):
        load(archive({"width": set}))
    with pytest.raises(ForeignCodeError, match="Memory"):
        load(archive({"width": torch.ones(1).untyped_storage()}))
    assert foreign_names(archive({"a": print, "b": set, "c": torch.ones(1)})) == ["builtins.print"]
