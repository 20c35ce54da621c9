from __future__ import annotations

import weakref

from trainkit.data.counter import ItemCounter


def test_an_item_is_counted_before_it_is_given_out():
    counter = ItemCounter()
    assert [(item, counter.passed) for item in counter.wrap("abc")] == [("a", 1), ("b", 2), ("c", 3)]
    assert counter.passed == 3


def test_counting_goes_on_from_where_it_is_set():
    counter = ItemCounter()
    counter.set(5)
    assert [counter.passed for _ in counter.wrap(range(2))] == [6, 7]
    counter.set(0)
    assert counter.passed == 0


def test_nothing_is_taken_ahead_and_the_end_is_not_counted():
    taken = []
    counter = ItemCounter()
    items = counter.wrap(taken.append(k) or k for k in range(3))
    next(items)
    assert (taken, counter.passed) == ([0], 1)
    assert list(items) == [1, 2]
    assert next(items, None) is None
    assert counter.passed == 3


def test_items_that_are_false_pass_too():
    counter = ItemCounter()
    assert list(counter.wrap([0, None, False])) == [0, None, False]


def test_what_is_counted_is_not_held():
    items, counter = (k for k in range(3)), ItemCounter()
    gone = weakref.ref(items)
    iterator = counter.wrap(items)
    next(iterator)
    del items, iterator
    assert gone() is None
    assert counter.passed == 1
