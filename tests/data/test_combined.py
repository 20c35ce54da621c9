from __future__ import annotations

import pytest
from torch.utils.data import DataLoader, IterableDataset

from trainkit.data.combined import CombinedLoader, batches_of, holds_loader, leaves
from trainkit.errors import DataError, UnknownNameError

A, B = ["a0", "a1", "a2"], ["b0", "b1"]


class Stream(IterableDataset):
    def __iter__(self):
        return iter("xyz")


@pytest.mark.parametrize(
    ("mode", "expected"),
    [
        ("min_size", [("a0", "b0"), ("a1", "b1")]),
        ("max_size", [("a0", "b0"), ("a1", "b1"), ("a2", None)]),
        ("max_size_cycle", [("a0", "b0"), ("a1", "b1"), ("a2", "b0")]),
    ],
)
@pytest.mark.parametrize("swapped", [False, True])
def test_loaders_iterated_together(mode, expected, swapped):
    combined = CombinedLoader((B, A) if swapped else (A, B), mode)
    expected = [pair[::-1] for pair in expected] if swapped else expected
    assert list(combined) == [(pair, index, 0) for index, pair in enumerate(expected)]
    assert list(combined.batches()) == expected
    assert len(combined) == len(expected)


def test_loaders_one_after_the_other():
    combined = CombinedLoader({"a": A, "b": B}, "sequential")
    assert list(combined) == [("a0", 0, 0), ("a1", 1, 0), ("a2", 2, 0), ("b0", 0, 1), ("b1", 1, 1)]
    assert len(combined) == 5


def test_a_batch_has_the_shape_of_the_loaders():
    loader = DataLoader(range(2), batch_size=None)
    combined = CombinedLoader({"a": [loader, (loader,)], "b": loader, "c": A}, "min_size")
    assert next(iter(combined.batches())) == {"a": [0, (0,)], "b": 0, "c": "a0"}
    assert combined.flattened == [loader, loader, loader, A]


def test_every_iteration_starts_anew():
    combined = CombinedLoader([A, B], "max_size_cycle")
    assert list(combined) == list(combined)


def test_a_combined_loader_inside_another_is_restarted_too():
    inner = CombinedLoader([B], "min_size")
    combined = CombinedLoader([A, inner], "max_size_cycle")
    assert list(combined.batches()) == [["a0", ["b0"]], ["a1", ["b1"]], ["a2", ["b0"]]]


def test_length_is_unknown_if_one_is():
    with pytest.raises(TypeError):
        len(CombinedLoader([A, Stream()], "max_size"))


def test_map_keeps_shape_and_mode():
    combined = CombinedLoader({"a": A, "b": B}, "sequential")
    mapped = combined.map(lambda loader: loader[:1])
    assert mapped.iterables == {"a": ["a0"], "b": ["b0"]}
    assert list(mapped.batches()) == ["a0", "b0"]
    assert combined.flattened == [A, B]


def test_an_unknown_mode_names_the_nearest():
    with pytest.raises(UnknownNameError, match="did you mean 'max_size_cycle'"):
        CombinedLoader([A], "max_size_cycl")


@pytest.mark.parametrize("nothing", [[], {}, ()])
def test_no_loaders_at_all_is_an_error(nothing):
    with pytest.raises(DataError, match="at least one"):
        CombinedLoader(nothing)


def test_what_cannot_be_iterated_over_is_an_error():
    with pytest.raises(DataError, match=r"int \(3\)"):
        CombinedLoader([A, 3])


def test_a_loader_that_cannot_start_anew_is_an_error_when_it_has_to():
    with pytest.raises(DataError, match="loader 1"):
        list(CombinedLoader([A, iter(B)], "max_size_cycle"))


def test_leaves_and_loaders():
    loader = DataLoader(range(2))
    assert list(leaves({"a": [1, (2,)], "b": "text"})) == [1, 2, "text"]
    assert holds_loader({"a": [A, (loader,)]})
    assert holds_loader([Stream()])
    assert not holds_loader([A, B])
    assert batches_of(A) is A
