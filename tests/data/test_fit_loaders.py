from __future__ import annotations

from typing import Any

import pytest

from trainkit.data.fit_loaders import FitLoaders
from trainkit.data.loaders import LimitedLoader


class Batches(LimitedLoader):
    """Ten batches of numbers; notes the epochs that it is told, and whether it was closed."""

    def __init__(self, first: int) -> None:
        super().__init__(range(first, first + 10))
        self.epochs: list[int] = []
        self.closed = 0

    def set_epoch(self, epoch: int) -> None:
        super().set_epoch(epoch)
        self.epochs.append(epoch)

    def close(self) -> None:
        super().close()
        self.closed += 1


class Source:
    """Makes loaders, each time with others in them; the first ones are ``all_made[0]``."""

    def __init__(self, every_n_epochs: int) -> None:
        self.every_n_epochs = every_n_epochs
        self.all_made: list[list[Batches]] = []
        self.loaders = self.make()

    def make(self) -> FitLoaders:
        train, val, sanity = made = [Batches(100 * len(self.all_made) + number) for number in range(3)]
        self.all_made.append(made)
        return FitLoaders(train, [val], [sanity], self.make, self.every_n_epochs)

    def in_epochs(self, *epochs: int) -> list[int]:
        """Return in which of ``epochs`` loaders are made anew."""
        anew = []
        for epoch in epochs:
            before = len(self.all_made)
            self.loaders.start_epoch(epoch)
            anew += [epoch] * (len(self.all_made) - before)
        return anew


@pytest.mark.parametrize(
    ("every_n_epochs", "epochs", "anew"),
    [
        (0, range(5), []),
        (1, range(5), [1, 2, 3, 4]),
        (2, range(7), [2, 4, 6]),
        # A run that goes on reloads where the whole one would have: not three epochs after its own beginning.
        (3, range(2, 10), [3, 6, 9]),
        (3, range(3, 10), [6, 9]),
    ],
)
def test_loaders_are_made_anew_by_the_number_of_the_epoch(every_n_epochs: int, epochs: Any, anew: list[int]) -> None:
    assert Source(every_n_epochs).in_epochs(*epochs) == anew


@pytest.mark.parametrize(("first", "anew"), [(2, [2, 4]), (3, [4])])
def test_a_run_that_goes_on_between_epochs_makes_them_for_its_first_one_if_due(first: int, anew: list[int]) -> None:
    source = Source(every_n_epochs=2)
    source.loaders.resume_between_epochs()
    assert source.in_epochs(*range(first, 6)) == anew


def test_within_an_epoch_nothing_is_made_twice() -> None:
    assert Source(every_n_epochs=1).in_epochs(0, 1, 1, 2, 2) == [1, 2]


def test_batches_come_from_the_new_loaders_and_the_old_ones_are_closed_once() -> None:
    source = Source(every_n_epochs=1)
    loaders = source.loaders
    assert source.in_epochs(0, 1) == [1]
    (old_train, old_val, old_sanity), (train, val, _) = source.all_made
    assert next(loaders.train.batches()) == (0, 100, False)
    assert loaders.train is train
    assert loaders.val == [val]
    assert [loader.closed for loader in (old_train, old_val, old_sanity)] == [1, 1, 1]
    assert [loader.closed for loader in (train, val)] == [0, 0]


def test_whoever_gives_batches_is_told_the_epoch() -> None:
    source = Source(every_n_epochs=2)
    source.in_epochs(0, 1, 2)
    (old_train, old_val, _), (train, val, _) = source.all_made
    assert (old_train.epochs, old_val.epochs) == ([0, 1], [0, 1])
    assert (train.epochs, val.epochs) == ([2], [2])


def test_close_ends_all_of_them() -> None:
    source = Source(every_n_epochs=0)
    source.loaders.close()
    assert [loader.closed for loader in source.all_made[0]] == [1, 1, 1]
