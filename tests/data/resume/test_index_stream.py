from __future__ import annotations

import zlib

import pytest

from trainkit.data.resume.index_stream import IndexStream
from trainkit.data.resume.seeding import SeededIndex, SeededIndices

BATCHES = [[0, 1], [2, 3], [4, 5], [6]]


def stream(indices=BATCHES, skip=0, seed=None, first=lambda: None, second=next):
    return IndexStream(indices, skip, seed, first, second)


@pytest.mark.parametrize("skip", range(5))
def test_skipped_items_are_drawn_and_not_given(skip):
    skipping = stream(skip=skip)
    assert list(skipping) == BATCHES[skip:]
    assert skipping.drawn[0] == len(BATCHES)


def test_the_checksum_is_one_of_all_items_so_far_whether_they_were_skipped_or_given():
    given, skipping = stream(), stream(skip=3)
    list(given)
    list(skipping)
    assert given.drawn == skipping.drawn
    other = stream([[0, 1], [3, 2], [4, 5], [6]])
    list(other)
    assert other.drawn != given.drawn
    assert given.checksum(1) == zlib.crc32(b"[0, 1]")
    assert other.checksum(1) == given.checksum(1)
    assert other.checksum(2) != given.checksum(2)


def test_what_is_drawn_ahead_is_given_in_its_turn():
    ahead = stream(skip=1)
    ahead.advance(drawn=3)
    assert ahead.drawn[0] == 3
    assert list(ahead) == BATCHES[1:]


def test_who_watches_the_sampler_is_asked_at_the_first_and_the_second_draw():
    seen = []

    def second(iterator):
        seen.append("second")
        return next(iterator)

    watched = stream(first=lambda: seen.append("first"), second=second)
    assert next(watched) == [0, 1]
    assert seen == ["first"]
    assert list(watched) == BATCHES[1:]
    assert seen == ["first", "second"]


def test_items_carry_the_seed_and_their_number_in_the_epoch():
    seeded = stream(skip=2, seed=5)
    seeded.advance(drawn=4)
    first, second = next(seeded), next(seeded)
    assert isinstance(first, SeededIndices)
    assert [list(first), list(second)] == [[4, 5], [6]]
    assert first.__reduce__()[1][0] != second.__reduce__()[1][0]
    alone = stream(skip=3, seed=5)
    assert next(alone).__reduce__() == second.__reduce__()


def test_single_indices_stay_numbers():
    index = next(stream([7, 8], seed=1))
    assert isinstance(index, SeededIndex)
    assert index == 7
