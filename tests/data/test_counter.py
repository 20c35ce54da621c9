from __future__ import annotations

import weakref

from trainkit.data.counter import Tally


def test_an_item_is_counted_before_it_is_given_out():
    tally = Tally()
    assert [(item, tally.passed) for item in tally.of("abc")] == [("a", 1), ("b", 2), ("c", 3)]
    assert tally.passed == 3


def test_counting_goes_on_from_where_it_is_set():
    tally = Tally()
    tally.set(5)
    assert [tally.passed for _ in tally.of(range(2))] == [6, 7]
    tally.set(0)
    assert tally.passed == 0


def test_nothing_is_taken_ahead_and_the_end_is_not_counted():
    taken = []
    tally = Tally()
    items = tally.of(taken.append(k) or k for k in range(3))
    next(items)
    assert (taken, tally.passed) == ([0], 1)
    assert list(items) == [1, 2]
    assert next(items, None) is None
    assert tally.passed == 3


def test_items_that_are_false_pass_too():
    tally = Tally()
    assert list(tally.of([0, None, False])) == [0, None, False]


def test_what_is_counted_is_not_held():
    items, tally = (k for k in range(3)), Tally()
    gone = weakref.ref(items)
    iterator = tally.of(items)
    next(iterator)
    del items, iterator
    assert gone() is None
    assert tally.passed == 1
