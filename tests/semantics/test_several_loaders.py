"""Several loaders at once, and what counts as several."""

from __future__ import annotations

import pytest
import torch
from torch.utils.data import DataLoader

from trainkit.errors import DataError
from trainkit.testing import Recorder, TinyData, TinyModule, quiet_trainer


def loader(*values, batch_size=1):
    """A DataLoader over numbers."""
    return DataLoader([torch.tensor(float(value)) for value in values], batch_size=batch_size)


class Numbers(TinyModule):
    """Takes any batch; notes what it got."""

    def __init__(self):
        super().__init__()
        self.seen = []

    def training_step(self, batch, batch_idx):
        self.seen.append(batch)
        return self.layer.weight.sum()

    def validation_step(self, batch, batch_idx, dataloader_idx=0):
        self.log("value", batch.float().mean())

    test_step = validation_step

    def predict_step(self, batch, batch_idx, dataloader_idx=0):
        return batch.tolist(), dataloader_idx


def plain(batch):
    """Turn tensors into numbers, keep the nesting."""
    if isinstance(batch, dict):
        return {key: plain(value) for key, value in batch.items()}
    if isinstance(batch, list | tuple):
        return [plain(value) for value in batch]
    return None if batch is None else batch.item()


def test_metrics_of_several_validation_loaders_carry_the_loader_index():
    trainer = quiet_trainer()
    results = trainer.validate(Numbers(), [loader(1, 2), loader(10)])
    assert results == [{"value/dataloader_idx_0": 1.5}, {"value/dataloader_idx_1": 10.0}]
    assert {name: value.item() for name, value in trainer.callback_metrics.items()} == {
        "value/dataloader_idx_0": 1.5,
        "value/dataloader_idx_1": 10.0,
    }


def test_one_loader_in_a_list_keeps_the_plain_name():
    assert quiet_trainer().validate(Numbers(), [loader(1, 2)]) == [{"value": 1.5}]


def test_dataloader_index_can_be_left_out_of_the_name():
    class Module(Numbers):
        def validation_step(self, batch, batch_idx, dataloader_idx=0):
            self.log(f"value_{dataloader_idx}", batch.mean(), add_dataloader_idx=False)

    results = quiet_trainer().validate(Module(), [loader(1), loader(10)])
    assert results == [{"value_0": 1.0}, {"value_1": 10.0}]


def test_steps_and_hooks_take_the_loader_index_one_loader_after_the_other():
    seen = []

    class Module(Numbers):
        def validation_step(self, batch, batch_idx, dataloader_idx):
            seen.append((dataloader_idx, batch_idx, batch.item()))

    recorder = Recorder(only=["on_validation_batch_start", "on_validation_batch_end"])
    quiet_trainer(callbacks=[recorder]).validate(Module(), [loader(1, 2), loader(10)])
    assert seen == [(0, 0, 1.0), (0, 1, 2.0), (1, 0, 10.0)]
    for hook in ("on_validation_batch_start", "on_validation_batch_end"):
        called = [(arguments["dataloader_idx"], arguments["batch_idx"]) for arguments in recorder.arguments(hook)]
        assert called == [(0, 0), (0, 1), (1, 0)]


def test_validation_within_fit_takes_several_loaders_too():
    trainer = quiet_trainer()
    trainer.fit(Numbers(), loader(1), [loader(1, 2), loader(10)])
    assert trainer.callback_metrics["value/dataloader_idx_1"] == 10.0


def test_predict_returns_one_list_per_loader_if_there_are_several():
    assert quiet_trainer().predict(Numbers(), loader(1, 2)) == [([1.0], 0), ([2.0], 0)]
    assert quiet_trainer().predict(Numbers(), [loader(1), loader(10)]) == [[([1.0], 0)], [([10.0], 1)]]


@pytest.mark.parametrize(
    ("loaders", "batches"),
    [
        (lambda: [loader(1, 2, 3), loader(10)], [[1, 10], [2, 10], [3, 10]]),
        (lambda: {"a": loader(1, 2), "b": loader(10)}, [{"a": 1, "b": 10}, {"a": 2, "b": 10}]),
        (lambda: {"a": [loader(1), loader(2)], "b": loader(3)}, [{"a": [1, 2], "b": 3}]),
    ],
    ids=["list", "dict", "nested"],
)
def test_several_train_loaders_give_one_nested_batch_and_short_ones_start_over(loaders, batches):
    module = Numbers()
    quiet_trainer().fit(module, loaders())
    assert [plain(batch) for batch in module.seen] == batches


@pytest.mark.parametrize(
    ("mode", "batches"),
    [
        ("min_size", [[1, 10]]),
        ("max_size", [[1, 10], [2, None], [3, None]]),
        ("max_size_cycle", [[1, 10], [2, 10], [3, 10]]),
    ],
)
def test_combined_loader_modes(mode, batches):
    from trainkit.data import CombinedLoader

    module = Numbers()
    quiet_trainer().fit(module, CombinedLoader([loader(1, 2, 3), loader(10)], mode))
    assert [plain(batch) for batch in module.seen] == batches


def test_combined_loader_sequential_gives_one_loader_after_the_other():
    from trainkit.data import CombinedLoader

    module = Numbers()
    quiet_trainer().fit(module, CombinedLoader({"a": loader(1, 2), "b": loader(10)}, "sequential"))
    assert [plain(batch) for batch in module.seen] == [1, 2, 10]


def test_list_of_batches_is_one_loader():
    module = Numbers()
    batches = [torch.tensor([1.0]), torch.tensor([2.0])]
    trainer = quiet_trainer()
    trainer.fit(module, batches)
    assert [plain(batch) for batch in module.seen] == [1.0, 2.0]
    assert quiet_trainer().validate(module, batches) == [{"value": 1.5}]


def test_list_of_pairs_is_one_loader():
    data = TinyData(num_batches=2)
    trainer = quiet_trainer()
    trainer.fit(TinyModule(), data, data)
    assert trainer.num_training_batches == 2
    assert "val/loss" in trainer.callback_metrics


def test_mixture_of_loaders_and_batches_is_an_error():
    with pytest.raises(ValueError, match="DataLoader"):
        quiet_trainer().fit(Numbers(), [loader(1), torch.tensor([2.0])])


def test_any_iterable_of_batches_is_a_loader():
    class Source:
        def __iter__(self):
            return iter([torch.tensor([1.0]), torch.tensor([2.0])])

    module = Numbers()
    quiet_trainer(max_epochs=2).fit(module, Source())
    assert [plain(batch) for batch in module.seen] == [1.0, 2.0, 1.0, 2.0]


class Indexed:
    """Two batches that are asked for by index alone."""

    def __len__(self):
        return 2

    def __getitem__(self, index):
        if index >= 2:
            raise IndexError
        return torch.tensor([float(index)])


def test_what_is_a_loader_alone_is_one_in_a_dict_too():
    module = Numbers()
    quiet_trainer().fit(module, {"a": Indexed(), "b": [torch.tensor([5.0])]})
    assert [plain(batch) for batch in module.seen] == [{"a": 0.0, "b": 5.0}, {"a": 1.0, "b": 5.0}]


def once(count):
    return zip((torch.tensor([float(number)]) for number in range(count)), strict=True)


def test_iterators_that_end_together_are_used_to_their_end():
    module = Numbers()
    quiet_trainer().fit(module, {"a": once(3), "b": once(3)})
    assert len(module.seen) == 3


def test_an_iterator_that_ends_before_others_says_that_it_cannot_start_anew():
    with pytest.raises(
        DataError, match=r"(?s)loader 1 of a CombinedLoader gave no batch when it was started anew.*to do"
    ):
        quiet_trainer().fit(Numbers(), {"a": [torch.zeros(1)] * 3, "b": once(2)})


def test_iterators_side_by_side_that_are_used_up_say_so():
    with pytest.raises(DataError, match=r"train_dataloader is used up: a zip can be iterated over only once"):
        quiet_trainer(max_epochs=2).fit(Numbers(), {"a": once(3), "b": once(3)})


@pytest.mark.parametrize(("loaders", "passed"), [(1, ("default",)), (2, (0, 1))])
def test_the_loader_index_is_passed_only_where_there_are_several_loaders(loaders, passed):
    class Watch(Numbers):
        def test_step(self, batch, batch_idx, dataloader_idx="default"):
            self.seen.append(dataloader_idx)

        def predict_step(self, *args):
            self.seen.append(len(args))

    module = Watch()
    quiet_trainer().test(module, [loader(1) for _ in range(loaders)], verbose=False)
    assert tuple(module.seen) == passed
    module.seen.clear()
    quiet_trainer().predict(module, [loader(1) for _ in range(loaders)])
    assert module.seen == [2 if loaders == 1 else 3] * loaders
