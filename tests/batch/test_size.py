from __future__ import annotations

from collections import UserDict, namedtuple
from dataclasses import dataclass

import pytest
import torch
from torch.nn.utils.rnn import pack_sequence

from trainkit.batch.size import find_batch_size

Pair = namedtuple("Pair", ["x", "y"])


@dataclass
class Sample:
    x: torch.Tensor
    label: str = "cat"


@pytest.mark.parametrize(
    "batch",
    [
        torch.zeros(3, 2),
        (torch.zeros(3, 2), torch.zeros(3)),
        {"x": torch.zeros(3), "names": ["a", "b"], "weight": 2.0},
        UserDict(x=torch.zeros(3)),
        Pair(torch.zeros(3), None),
        Sample(torch.zeros(3)),
        [{"deep": (Sample(torch.zeros(3)), [torch.zeros(3, 5)])}],
        (torch.zeros(3), torch.tensor(7.0)),
        [torch.zeros(3), object()],
    ],
    ids=lambda batch: type(batch).__name__,
)
def test_size_is_that_of_dimension_0_at_any_depth(batch):
    assert find_batch_size(batch) == 3


@pytest.mark.parametrize(
    "batch",
    [
        None,
        5,
        "abc",
        ["a", "b", "c"],
        torch.tensor(1.0),
        [],
        Sample,
        (torch.zeros(3), torch.zeros(4)),
        {"x": torch.zeros(3), "lengths": [torch.zeros(2)]},
        pack_sequence([torch.zeros(3, 1), torch.zeros(2, 1)]),
    ],
    ids=repr,
)
def test_size_is_unknown_where_there_is_doubt(batch):
    assert find_batch_size(batch) is None


def test_empty_batch_has_size_0():
    assert find_batch_size(torch.zeros(0, 3)) == 0


# Lists of samples

IMAGES = [torch.zeros(3, 10, 12), torch.zeros(3, 8, 9)]
SEQUENCES = [torch.zeros(5, 8), torch.zeros(7, 8), torch.zeros(2, 8)]


@pytest.mark.parametrize(
    ("batch", "size"),
    [
        (IMAGES, 2),
        (SEQUENCES, 3),
        ([torch.zeros(4), torch.zeros(6)], 2),
        ((IMAGES, torch.zeros(2)), 2),
        ({"images": IMAGES, "labels": torch.zeros(2), "sizes": [torch.zeros(2), torch.zeros(2)]}, 2),
        ((tuple(SEQUENCES), ["a", "b", "c"]), 3),
        ((IMAGES, [{"boxes": torch.zeros(5, 4)}, {"boxes": torch.zeros(1, 4)}]), 2),
        ([{"image": IMAGES[0], "boxes": torch.zeros(2, 4)}, {"image": IMAGES[1], "boxes": torch.zeros(5, 4)}], 2),
        ([(IMAGES[0], 1), (IMAGES[1], 0)], 2),
        ([Sample(IMAGES[0]), Sample(IMAGES[1])], 2),
    ],
    ids=range(10),
)
def test_a_list_whose_members_differ_in_shape_is_a_list_of_samples(batch, size):
    assert find_batch_size(batch) == size


@pytest.mark.parametrize(
    "batch",
    [
        [torch.zeros(4, 8), torch.zeros(4, 1)],
        [torch.zeros(4, 3, 16, 16), torch.zeros(4, 1, 16, 16)],
        (torch.zeros(4, 6, 8), torch.zeros(4, 2, 8)),
        [torch.zeros(4, 8), torch.zeros(4)],
        [torch.zeros(4, 8), torch.zeros(4, 8)],
    ],
    ids=range(5),
)
def test_inputs_and_targets_are_no_list_of_samples(batch):
    assert find_batch_size(batch) == 4


@pytest.mark.parametrize(
    ("batch", "known", "size"),
    [
        ([torch.zeros(3, 8, 9)], 1, 1),
        ([torch.zeros(3, 8, 9)], 3, 3),
        ([torch.zeros(3, 8, 9), torch.zeros(3, 8, 9)], 2, 2),
        ([torch.zeros(3, 6, 8), torch.zeros(3, 2, 8)], 3, 3),
        (IMAGES, 2, 2),
        ([torch.zeros(2, 900), torch.zeros(2, 700), torch.zeros(2, 800)], 3, 3),
        # Neither: two loaders side by side, or samples that are batches themselves.
        ([torch.zeros(4, 2), torch.zeros(8, 2)], 0, None),
        ([torch.zeros(4, 2), torch.zeros(4, 2)], 0, 4),
        (torch.zeros(8, 2), 4, 8),
    ],
    ids=range(9),
)
def test_the_loader_decides_where_a_batch_can_be_read_in_two_ways(batch, known, size):
    assert find_batch_size(batch, lambda: known) == size


@pytest.mark.parametrize(
    ("batch", "known"),
    [
        ([torch.zeros(5, 5, 6), torch.zeros(5, 7, 6)], 2),
        ([torch.zeros(5, 5, 6), torch.zeros(5, 5, 8), torch.zeros(5, 7, 6)], 3),
        ([torch.zeros(3, 5, 6)], 1),
        ([torch.zeros(3, 5, 6), torch.zeros(3, 5, 6)], 2),
        ({"a": [torch.zeros(5, 5, 6), torch.zeros(5, 7, 6)]}, 2),
        ([(torch.zeros(5, 5, 6), torch.zeros(5)), (torch.zeros(5, 7, 6), torch.zeros(5))], 2),
    ],
    ids=range(6),
)
def test_images_of_any_channels_may_be_sequences_and_their_targets(batch, known):
    assert find_batch_size(batch) is None
    assert find_batch_size(batch, lambda: known) == known
    assert find_batch_size((batch, torch.zeros(known))) == known, "the labels tell"


def test_a_list_with_as_many_images_as_channels_is_read_in_one_way():
    assert find_batch_size([torch.zeros(2, 5, 6), torch.zeros(2, 7, 6)]) == 2


def test_the_loader_is_not_asked_where_there_is_one_reading():
    assert find_batch_size([torch.zeros(4, 8), torch.zeros(4)], lambda: 1 / 0) == 4
