from __future__ import annotations

import random
import warnings

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.utils.data import DataLoader, IterableDataset

from trainkit.data import CombinedLoader
from trainkit.data.loaders import LimitedLoader, length_of
from trainkit.data.sampler import shard
from trainkit.errors import DataError


class Stream(IterableDataset):
    """Numbers without a length; notes how many were asked for."""

    def __init__(self, size):
        self.size = size
        self.fetched = 0

    def __iter__(self):
        for value in range(self.size):
            self.fetched += 1
            yield value


class Promises:
    """Has a length that is not that of what it gives."""

    def __init__(self, promised, given):
        self.promised = promised
        self.given = given

    def __len__(self):
        return self.promised

    def __iter__(self):
        return iter(range(self.given))


class NotImplementedLength(Stream):
    def __len__(self):
        raise NotImplementedError


# Lengths and limits


def test_length_is_none_where_it_is_not_known():
    assert length_of([1, 2]) == 2
    assert length_of(DataLoader(range(5), batch_size=2)) == 3
    for loader in (Stream(3), DataLoader(Stream(3)), iter([1]), NotImplementedLength(3)):
        assert length_of(loader) is None


@given(length=st.integers(1, 300), limit=st.integers(0, 400) | st.floats(0.0, 1.0))
def test_a_limit_is_a_number_of_batches_or_a_share_rounded_down(length, limit):
    share = isinstance(limit, float)
    expected = int(length * limit) if share else min(length, limit)
    if share and limit > 0 and expected == 0:
        with pytest.raises(DataError, match=f"limit={limit!r}.*has {length}"):
            LimitedLoader(range(length), limit)
        return
    loader = LimitedLoader(range(length), limit)
    assert loader.num_batches == expected
    assert list(loader.batches()) == [(i, i, i == expected - 1) for i in range(expected)]


@given(size=st.integers(1, 30), limit=st.integers(0, 40) | st.sampled_from([0.0, 1.0]))
def test_without_a_length_the_last_batch_is_still_known(size, limit):
    stream = Stream(size)
    loader = LimitedLoader(stream, limit)
    expected = size if limit == 1.0 and isinstance(limit, float) else min(size, int(limit))
    assert list(loader.batches()) == [(i, i, i == expected - 1) for i in range(expected)]
    assert loader.num_batches == (None if isinstance(limit, float) and limit else int(limit))
    assert stream.fetched == expected, "a limit must not fetch what it cuts off"


def test_one_is_not_one_point_zero():
    assert LimitedLoader(range(5), 1).num_batches == 1
    assert LimitedLoader(range(5), 1.0).num_batches == 5


def test_without_a_length_one_batch_is_looked_ahead_and_with_one_none():
    stream = Stream(3)
    assert [stream.fetched for _ in LimitedLoader(stream).batches()] == [2, 3, 3]

    fetched = []
    sized = DataLoader(range(3), batch_size=1, collate_fn=fetched.append)
    assert [len(fetched) for _ in LimitedLoader(sized).batches()] == [1, 2, 3]


@pytest.mark.parametrize("limit", [0.5, 0.01, 0.99])
def test_a_share_of_an_unknown_length_is_an_error_that_names_the_argument(limit):
    with pytest.raises(DataError, match=rf"limit_train_batches={limit} is a share of train_dataloader"):
        LimitedLoader(Stream(3), limit, "train_dataloader", "limit_train_batches")


@pytest.mark.parametrize("limit", [True, -1, -0.5, 1.5, "all", None])
def test_any_other_limit_is_an_error(limit):
    with pytest.raises(DataError, match=r"limit=.*share from 0\.0 to 1\.0"):
        LimitedLoader(range(3), limit)


# Empty loaders, and lengths that are not true


@pytest.mark.parametrize("loader", [[], DataLoader([]), DataLoader(range(3), batch_size=4, drop_last=True)])
def test_an_empty_loader_is_an_error_that_names_it(loader):
    with pytest.raises(DataError, match="val_dataloader is empty"):
        LimitedLoader(loader, 1.0, "val_dataloader")
    assert list(LimitedLoader(loader, 0).batches()) == []


def test_a_loader_without_length_that_gives_nothing_is_an_error():
    with pytest.raises(DataError, match="val_dataloader gave no batches"):
        list(LimitedLoader(Stream(0), 1.0, "val_dataloader").batches())


def test_the_part_of_one_rank_may_be_empty():
    part = shard(DataLoader(range(1)), rank=1, world_size=2, training=False)
    assert list(LimitedLoader(part).batches()) == []


def test_a_generator_is_used_up_after_the_first_epoch_and_the_error_says_so():
    loader = LimitedLoader((x for x in range(2)), 1.0, "train_dataloader")
    assert len(list(loader.batches())) == 2
    with pytest.raises(DataError, match=r"(?s)train_dataloader is used up: a generator.*only once"):
        list(loader.batches())


def test_a_loader_that_ends_early_warns_once_and_marks_no_last_batch():
    loader = LimitedLoader(Promises(5, 3), 1.0, "train_dataloader")
    with pytest.warns(UserWarning, match=r"train_dataloader has a length of 5 and ended after 3"):
        assert list(loader.batches()) == [(0, 0, False), (1, 1, False), (2, 2, False)]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert len(list(loader.batches())) == 3


def test_a_loader_is_not_asked_for_more_than_it_promised():
    shared = iter(range(10))

    class Window:
        def __len__(self):
            return 2

        def __iter__(self):
            return shared

    loader = LimitedLoader(Window())
    assert [[batch for _, batch, _ in loader.batches()] for _ in range(2)] == [[0, 1], [2, 3]]


# Continuing


@given(size=st.integers(1, 12), start=st.integers(0, 14), sized=st.booleans(), limit=st.none() | st.integers(1, 14))
def test_starting_later_gives_the_rest(size, start, sized, limit):
    loader = LimitedLoader(range(size) if sized else Stream(size), 1.0 if limit is None else limit)
    assert list(loader.batches(start)) == list(loader.batches())[start:]


# Samplers


def order_of(loader, epochs):
    return [[batch.tolist() for _, batch, _ in loader.batches()] for _ in range(epochs)]


@pytest.mark.parametrize("own_generator", [False, True])
def test_shuffling_draws_what_a_plain_loop_draws(own_generator):
    def make():
        generator = torch.Generator().manual_seed(3) if own_generator else None
        return DataLoader(range(6), batch_size=2, shuffle=True, generator=generator)

    torch.manual_seed(1)
    plain = make()
    expected = [[batch.tolist() for batch in plain] for _ in range(3)]
    after = torch.rand(1)
    torch.manual_seed(1)
    assert order_of(LimitedLoader(make()), 3) == expected
    assert torch.equal(torch.rand(1), after)


def test_a_stream_that_draws_differs_from_epoch_to_epoch_and_from_what_training_draws():
    class Draws(IterableDataset):
        def __iter__(self):
            for _ in range(3):
                yield torch.rand(1), np.random.rand(), random.random()

    limited = LimitedLoader(DataLoader(Draws(), batch_size=None), 1.0, "train_dataloader")
    drawn, trained = [], []
    for epoch in range(2):
        limited.set_epoch(epoch)
        for _, batch, _ in limited.batches():
            drawn += [round(float(number), 6) for number in batch]
            trained.append(round(torch.rand(1).item(), 6))
    assert len(set(drawn + trained)) == len(drawn + trained)


# Places of loaders without length


class Drawn(IterableDataset):
    """Draws from the generator it is given, or else from the global ones."""

    def __init__(self, generator=None):
        self.generator = generator

    def __iter__(self):
        for _ in range(5):
            yield torch.rand((), generator=self.generator).item(), random.random(), np.random.randn()


def with_own_generator():
    generator = torch.Generator().manual_seed(2)
    return DataLoader(Drawn(generator), batch_size=None, generator=generator)


STREAMS = {
    "global": lambda: DataLoader(Drawn(), batch_size=None),
    "own generator": with_own_generator,
    "workers": lambda: DataLoader(Drawn(), batch_size=None, num_workers=1),
    "several": lambda: CombinedLoader([DataLoader(Drawn(), batch_size=None), [7, 8]], "max_size_cycle"),
}


@pytest.mark.filterwarnings("ignore:.*(cannot be told where to begin|in turn with training)")
@pytest.mark.parametrize("name", STREAMS)
@pytest.mark.parametrize("under_way", [0, 1])
def test_a_place_holds_neither_the_batch_that_is_ahead_nor_the_one_that_is_under_way(name, under_way):
    torch.manual_seed(3)
    limited = LimitedLoader(STREAMS[name]())
    batches, states = [], []
    for batch_idx, batch, _ in limited.batches():
        batches.append(batch)
        states.append(limited.state_dict(batch_idx + 1 - under_way))
        torch.rand(1), random.random(), np.random.randn()  # the step
    for consumed, state in enumerate(states, 1 - under_way):
        resumed = LimitedLoader(STREAMS[name]())
        resumed.load_state_dict(state, mid_epoch=True)
        assert [batch for _, batch, _ in resumed.batches(consumed)] == batches[consumed:]
