from __future__ import annotations

from typing import Any

import pytest
import torch
from torch.utils.data import DataLoader

from trainkit.callbacks import PredictionWriter
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
        assert torch.equal(prediction, batch * 2)
        self.batches.append((idx, batch_idx, batch_indices, prediction.tolist()))

    def write_on_epoch_end(self, trainer: Any, module: Any, predictions: Any, batch_indices: Any) -> None:
        self.epochs.append((predictions, batch_indices))


class Doubles(TinyModule):
    """Predicts twice the input."""

    def predict_step(self, batch: Any, batch_idx: int, dataloader_idx: int = 0) -> Any:
        return batch * 2


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


def test_places_are_unknown_where_asking_would_draw_or_there_is_no_sampler() -> None:
    writer = Writer("batch")
    trainer = quiet_trainer(callbacks=[writer])
    trainer.predict(Doubles(), loader(0, 2, shuffle=True), return_predictions=False)
    trainer.predict(Doubles(), [torch.tensor([1])], return_predictions=False)
    assert [indices for _, _, indices, _ in writer.batches] == [None, None]


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
