"""What accumulating gradients over several batches means."""

from __future__ import annotations

import copy

import pytest
import torch
from torch.utils.data import DataLoader, IterableDataset

from trainkit.errors import TrainkitError
from trainkit.testing import Recorder, TinyData, TinyModule, assert_same_weights, quiet_trainer


def train_by_hand(module, groups):
    """One update for each group of batches, whose losses weigh the same."""
    module = copy.deepcopy(module)
    optimizer = module.configure_optimizers()
    for group in groups:
        optimizer.zero_grad()
        for batch in group:
            (module.loss(batch) / len(group)).backward()
        optimizer.step()
    return module


class Stream(IterableDataset):
    """The batches of a list, without a length."""

    def __init__(self, batches):
        self.batches = batches

    def __iter__(self):
        return iter(self.batches)


def test_last_short_group_still_updates():
    recorder = Recorder(only=["on_after_optimizer_step"])
    trainer = quiet_trainer(accumulate_grad_batches=2, callbacks=[recorder])
    trainer.fit(TinyModule(), TinyData(num_batches=5))
    assert recorder.count("on_after_optimizer_step") == 3
    assert trainer.global_step == 3


def test_last_short_group_is_divided_by_its_own_size():
    module, data = TinyModule(), TinyData(num_batches=5)
    expected = train_by_hand(module, [data[0:3], data[3:5]])
    quiet_trainer(accumulate_grad_batches=3).fit(module, data)
    assert_same_weights(module, expected)


def test_groups_do_not_reach_across_epochs():
    module, data = TinyModule(), TinyData(num_batches=3)
    expected = train_by_hand(module, [data[0:2], data[2:3]] * 2)
    trainer = quiet_trainer(accumulate_grad_batches=2, max_epochs=2)
    trainer.fit(module, data)
    assert trainer.global_step == 4
    assert_same_weights(module, expected)


def test_group_larger_than_the_epoch_is_the_epoch():
    module, data = TinyModule(), TinyData(num_batches=3)
    expected = train_by_hand(module, [data])
    with pytest.warns(UserWarning, match="accumulate_grad_batches=8 is more than the 3 training batches of an epoch"):
        quiet_trainer(accumulate_grad_batches=8).fit(module, data)
    assert_same_weights(module, expected)


def test_short_group_of_a_loader_without_length_weighs_every_batch_the_same():
    module, data = TinyModule(), TinyData(num_batches=5)
    expected = train_by_hand(module, [data[0:3], data[3:5]])
    trainer = quiet_trainer(accumulate_grad_batches=3)
    trainer.fit(module, DataLoader(Stream(data), batch_size=None))
    assert trainer.global_step == 2
    assert_same_weights(module, expected, atol=1e-6)


def test_group_cut_short_by_a_stop_is_rescaled():
    module, data = TinyModule(), TinyData(num_batches=6)
    expected = train_by_hand(module, [data[0:3], data[3:4]])

    class StopAfterFourBatches:
        def on_train_batch_end(self, trainer, batch_idx):
            trainer.should_stop = batch_idx == 3

    trainer = quiet_trainer(accumulate_grad_batches=3, callbacks=[StopAfterFourBatches()])
    trainer.fit(module, data)
    assert trainer.global_step == 2
    assert_same_weights(module, expected, atol=1e-6)


def test_group_cut_short_by_minus_one_is_rescaled():
    module, data = TinyModule(), TinyData(num_batches=6)
    expected = train_by_hand(module, [data[0:3], data[3:5]])

    class SkipTheRest:
        def on_train_batch_start(self, batch_idx):
            return -1 if batch_idx == 5 else None

    trainer = quiet_trainer(accumulate_grad_batches=3, callbacks=[SkipTheRest()])
    trainer.fit(module, data)
    assert trainer.global_step == 2
    assert_same_weights(module, expected, atol=1e-6)


@pytest.mark.parametrize("skipped", [0, 1, 2])
def test_skipped_batch_does_not_count_in_its_group(skipped):
    class Skipping(TinyModule):
        def training_step(self, batch, batch_idx):
            return None if batch_idx == skipped else self.loss(batch)

    module, data = Skipping(), TinyData(num_batches=3)
    expected = train_by_hand(module, [[batch for index, batch in enumerate(data) if index != skipped]])
    trainer = quiet_trainer(accumulate_grad_batches=3)
    trainer.fit(module, data)
    assert trainer.global_step == 1
    assert_same_weights(module, expected, atol=1e-6)


def test_loss_of_a_batch_is_divided_for_backward_and_undivided_in_the_outputs():
    recorder = Recorder(only=["on_before_backward", "on_train_batch_end"])
    module, data = TinyModule(lr=0.0), TinyData(num_batches=5)
    losses = [module.loss(batch).item() for batch in data]
    quiet_trainer(accumulate_grad_batches=2, callbacks=[recorder]).fit(module, data)

    divided = [arguments["loss"].item() for arguments in recorder.arguments("on_before_backward")]
    assert divided == pytest.approx([loss / size for loss, size in zip(losses, [2, 2, 2, 2, 1], strict=True)])
    reported = [arguments["outputs"]["loss"].item() for arguments in recorder.arguments("on_train_batch_end")]
    assert reported == pytest.approx(losses)


def test_accumulation_can_change_from_an_epoch_on():
    recorder = Recorder(only=["on_train_epoch_end"], look=lambda trainer, module: trainer.global_step)
    trainer = quiet_trainer(max_epochs=4, accumulate_grad_batches={0: 1, 2: 3}, callbacks=[recorder])
    trainer.fit(TinyModule(), TinyData(num_batches=5))
    assert recorder.seen("on_train_epoch_end") == [5, 10, 12, 14]


class SumOfSamples(TinyModule):
    """Returns the sum over its samples and how many they are."""

    def training_step(self, batch, batch_idx):
        x, y = batch
        return {"loss": torch.nn.functional.mse_loss(self(x), y, reduction="sum"), "weight": len(x)}


@pytest.mark.parametrize("sizes", [(12,), (4, 4, 4), (5, 4, 3), (1, 11)])
def test_weighted_accumulation_gives_the_same_gradients_however_the_samples_are_cut(sizes):
    (x, y), gradients = TinyData(1, batch_size=12)[0], []

    class Gradients:
        def on_before_optimizer_step(self, module):
            gradients.append(module.layer.weight.grad.clone())

    module = SumOfSamples()
    expected = torch.autograd.grad(
        torch.nn.functional.mse_loss(module(x), y, reduction="sum") / 12, module.layer.weight
    )[0]
    batches = list(zip(x.split(sizes), y.split(sizes), strict=True))
    quiet_trainer(accumulate_grad_batches=len(sizes), callbacks=[Gradients()]).fit(module, batches)
    assert len(gradients) == 1
    torch.testing.assert_close(gradients[0], expected, rtol=0, atol=1e-6)


def test_weighted_loss_is_reported_as_it_was_returned():
    recorder = Recorder(only=["on_train_batch_end"])
    data = TinyData(num_batches=2, batch_size=3)
    module = SumOfSamples(lr=0.0)
    expected = [module.training_step(batch, 0)["loss"].item() for batch in data]
    quiet_trainer(callbacks=[recorder], accumulate_grad_batches=2).fit(module, data)
    outputs = [arguments["outputs"] for arguments in recorder.arguments("on_train_batch_end")]
    assert [output["loss"].item() for output in outputs] == pytest.approx(expected)


def test_weights_for_some_batches_of_a_group_only_are_an_error():
    class Module(TinyModule):
        def training_step(self, batch, batch_idx):
            loss = self.loss(batch)
            return {"loss": loss, "weight": 3} if batch_idx else loss

    with pytest.raises(TrainkitError, match="for all batches or for none"):
        quiet_trainer(accumulate_grad_batches=2).fit(Module(), TinyData(2))


def test_group_of_nothing_but_padding_changes_no_weight():
    class Module(TinyModule):
        def training_step(self, batch, batch_idx):
            return {"loss": self.loss(batch) * 0, "weight": 0}

    module = Module()
    before = copy.deepcopy(module)
    quiet_trainer().fit(module, TinyData(2))
    assert_same_weights(module, before)
