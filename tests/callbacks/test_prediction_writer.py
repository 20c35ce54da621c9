from __future__ import annotations

import random
from itertools import islice
from typing import Any

import pytest
import torch
from torch.utils.data import DataLoader

from trainkit.callbacks import PredictionWriter
from trainkit.data import TensorLoader
from trainkit.data.sampler import shard
from trainkit.errors import ModuleError, UnknownNameError
from trainkit.testing import TinyModule, quiet_trainer


class Writer(PredictionWriter):
    """Keeps what it is given to write."""

    def __init__(self, write_interval: Any) -> None:
        super().__init__(write_interval)
        self.batches: list[Any] = []
        self.epochs: list[Any] = []

    def write_on_batch_end(
        self, trainer: Any, module: Any, prediction: Any, batch_indices: Any, batch: Any, batch_idx: int, idx: int
    ) -> None:
        batch = batch[0] if isinstance(batch, list) else batch  # of a TensorLoader
        assert torch.equal(prediction, batch * 2)
        self.batches.append((idx, batch_idx, batch_indices, prediction.tolist()))

    def write_on_epoch_end(self, trainer: Any, module: Any, predictions: Any, batch_indices: Any) -> None:
        self.epochs.append((predictions, batch_indices))


class Doubles(TinyModule):
    """Predicts twice the input."""

    def predict_step(self, batch: Any, batch_idx: int, dataloader_idx: int = 0) -> Any:
        return (batch[0] if isinstance(batch, list) else batch) * 2


def loader(first: int, last: int, **options: Any) -> DataLoader[Any]:
    return DataLoader(torch.arange(first, last), batch_size=2, **options)


def predict(interval: str, *loaders: Any) -> Writer:
    writer = Writer(interval)
    trainer = quiet_trainer(callbacks=[writer])
    assert trainer.predict(Doubles(), list(loaders), return_predictions=False) is None
    return writer


def test_batches_are_written_with_their_places_in_the_dataset() -> None:
    writer = predict("batch", loader(10, 13), loader(20, 22))
    assert writer.batches == [(0, 0, [0, 1], [20, 22]), (0, 1, [2], [24]), (1, 0, [0, 1], [40, 42])]
    assert writer.epochs == []


def test_an_epoch_is_written_at_once() -> None:
    writer = predict("epoch", loader(10, 13))
    ((predictions, indices),) = writer.epochs
    assert [prediction.tolist() for prediction in predictions] == [[20, 22], [24]]
    assert indices == [[[0, 1], [2]]]
    assert writer.batches == []


def test_several_loaders_have_a_list_each_and_both_intervals_can_be_had() -> None:
    writer = predict("batch_and_epoch", loader(10, 12), loader(20, 22))
    ((predictions, indices),) = writer.epochs
    assert [[prediction.tolist() for prediction in each] for each in predictions] == [[[20, 22]], [[40, 42]]]
    assert indices == [[[0, 1]], [[0, 1]]]
    assert len(writer.batches) == 2


def test_a_writer_can_be_used_again() -> None:
    writer = Writer("epoch")
    trainer = quiet_trainer(callbacks=[writer])
    for _ in range(2):
        trainer.predict(Doubles(), loader(10, 12), return_predictions=False)
    assert [len(predictions) for predictions, _ in writer.epochs] == [1, 1]


def test_places_are_unknown_without_a_sampler() -> None:
    writer = Writer("batch")
    trainer = quiet_trainer(callbacks=[writer])
    trainer.predict(Doubles(), [torch.tensor([1])], return_predictions=False)
    trainer.predict(Doubles(), Filtered(torch.arange(4), batch_size=2), return_predictions=False)
    assert [indices for _, _, indices, _ in writer.batches] == [None, None]


class Filtered(DataLoader[Any]):
    """Leaves out its first batch, of which its sampler does not know."""

    def __iter__(self) -> Any:
        return islice(super().__iter__(), 1, None)

    def __len__(self) -> int:
        return super().__len__() - 1


class Sampled:
    """A sampler of drawn indices, with a length or without, that draws whenever it is asked."""

    def __init__(self, count: int, of: int) -> None:
        self.count, self.of = count, of
        self.generator = torch.Generator().manual_seed(count)

    def __iter__(self) -> Any:
        return (int(torch.randint(self.of, (), generator=self.generator)) for _ in range(self.count))


class Sized(Sampled):
    def __len__(self) -> int:
        return self.count


class Uneven(Sized):
    """A batch sampler of batches of different sizes."""

    def __iter__(self) -> Any:
        return (
            torch.randint(self.of, (size % 3 + 1,), generator=self.generator).tolist() for size in range(self.count)
        )


def drawn_loader(draw: random.Random) -> Any:
    """A loader each of whose samples is its index in the dataset."""
    samples, size = draw.randint(1, 9), draw.randint(1, 4)
    dataset = torch.arange(samples)
    kinds = ["shuffled", "tensors", "in order", "sampler", "batches", "one by one", "rank"]
    kind, shuffle, drop_last = draw.choice(kinds), draw.random() < 0.5, draw.random() < 0.5
    if kind == "tensors":
        return TensorLoader(dataset, batch_size=size, shuffle=shuffle, drop_last=drop_last)
    if kind == "sampler":
        sampler = draw.choice([Sampled, Sized])(draw.randint(1, 12), samples)
        return DataLoader(dataset, size, sampler=sampler, drop_last=drop_last)  # type: ignore[arg-type]
    if kind == "batches":
        return DataLoader(dataset, batch_sampler=Uneven(draw.randint(1, 5), samples))  # type: ignore[arg-type]
    if kind == "one by one":
        return DataLoader(dataset, batch_size=None, shuffle=shuffle)
    whole = DataLoader(dataset, size, shuffle=kind == "shuffled" or shuffle, drop_last=drop_last)
    return shard(whole, draw.randrange(2), 2, training=False, seed=draw.randrange(9)) if kind == "rank" else whole


@pytest.mark.parametrize("seed", range(50))
def test_places_are_those_of_the_samples(seed: int) -> None:
    torch.manual_seed(seed)
    draw = random.Random(seed)
    writer = Writer("batch")
    loaders = [drawn_loader(draw) for _ in range(draw.randint(1, 3))]
    limit = draw.choice([1.0, 1, 2])
    trainer = quiet_trainer(callbacks=[writer], limit_predict_batches=limit)
    trainer.predict(Doubles(), loaders, return_predictions=False)
    assert writer.batches or any(len(loader) == 0 for loader in loaders)
    for _, _, indices, doubled in writer.batches:
        assert indices == [index // 2 for index in (doubled if isinstance(doubled, list) else [doubled])]


def test_places_are_known_where_workers_load_ahead() -> None:
    torch.manual_seed(0)
    writer = predict("batch", loader(0, 30, shuffle=True, num_workers=2, prefetch_factor=3))
    assert len(writer.batches) == 15
    assert all(indices == [index // 2 for index in doubled] for _, _, indices, doubled in writer.batches)


def test_no_sample_is_left_without_a_prediction() -> None:
    writer = predict("batch", DataLoader(torch.arange(10), batch_size=4, drop_last=True))
    assert [each[2] for each in writer.batches] == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9]]


def test_a_rank_knows_the_places_of_its_own_samples() -> None:
    part = shard(loader(0, 5), rank=1, world_size=2, training=False)
    assert [each[2] for each in predict("batch", part).batches] == [[1, 3]]


def test_an_index_that_is_a_batch_of_its_own_is_a_place() -> None:
    single = DataLoader(torch.arange(5, 7), batch_size=None)
    assert [each[2] for each in predict("batch", single).batches] == [[0], [1]]


@pytest.mark.parametrize(
    ("interval", "method"), [("batch", "write_on_batch_end"), ("batch_and_epoch", "write_on_epoch_end")]
)
def test_a_method_that_would_be_called_has_to_be_there(interval: Any, method: str) -> None:
    class Half(PredictionWriter):
        def write_on_batch_end(self, *args: Any) -> None: ...

    owner = PredictionWriter if method == "write_on_batch_end" else Half
    with pytest.raises(ModuleError, match=f"has to define {method}"):
        owner(interval)


def test_an_unknown_interval_is_refused() -> None:
    with pytest.raises(UnknownNameError, match="did you mean 'epoch'"):
        Writer("epochs")
