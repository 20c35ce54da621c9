from __future__ import annotations

import pytest
import torch

from trainkit.batch.transfer import make_transfer, move
from trainkit.data.module import DataModule
from trainkit.errors import DataError
from trainkit.module import TrainModule

CPU, META = torch.device("cpu"), torch.device("meta")


class Movable:
    def __init__(self, where="here"):
        self.where = where

    def to(self, device):
        return Movable(device)


class MovesInPlace(Movable):
    def to(self, device):
        self.where = device


class Fixed(Movable):
    def __init__(self, error):
        self.error = error

    def to(self, device):
        raise self.error


# move


def test_tensors_and_movable_objects_move_and_the_rest_stays():
    marker = object()
    x, (movable, text, other) = move((torch.zeros(2), [Movable(), "text", marker]), META)
    assert x.device == META
    assert movable.where == META
    assert text == "text"
    assert other is marker


def test_an_object_that_moves_in_place_and_returns_nothing_is_kept():
    batch = [MovesInPlace()]
    assert move(batch, META)[0] is batch[0]
    assert batch[0].where == META


@pytest.mark.parametrize(
    "batch",
    [
        (torch.zeros(2), torch.zeros(2)),
        [torch.zeros(2)],
        {"x": torch.zeros(2), "y": [torch.zeros(1)]},
        torch.zeros(2),
        (torch.zeros(2), 3, "text"),
        (),
    ],
    ids=["tuple", "list", "dict", "tensor", "mixed", "empty"],
)
def test_what_is_there_already_comes_back_itself(batch):
    assert move(batch, CPU) is batch


@pytest.mark.parametrize("error", [TypeError("takes a unit"), RuntimeError("bolted down")], ids=repr)
def test_what_fails_to_move_is_named(error):
    with pytest.raises(DataError, match=rf"(?s)Fixed.*meta.*{error}.*transfer_batch_to_device") as caught:
        move({"a": [Fixed(error)]}, META)
    assert caught.value.__cause__ is error


def test_running_out_of_memory_stays_what_it_is():
    with pytest.raises(torch.OutOfMemoryError):
        move([Fixed(torch.OutOfMemoryError("full"))], META)


# make_transfer


class Hooked(TrainModule):
    def on_before_batch_transfer(self, batch, dataloader_idx):
        return [*batch, f"before {dataloader_idx}"]

    def transfer_batch_to_device(self, batch, device, dataloader_idx):
        return [*super().transfer_batch_to_device(batch, device, dataloader_idx), f"to {device} {dataloader_idx}"]

    def on_after_batch_transfer(self, batch, dataloader_idx):
        return [*batch, f"after {dataloader_idx}"]


class HookedData(DataModule):
    def on_after_batch_transfer(self, batch, dataloader_idx):
        return [*batch, "after, by the data module"]


def converted(batch):
    return [*batch, "converted"]


def test_hooks_run_in_order_around_the_move_and_the_conversion():
    transfer = make_transfer(Hooked(), None, CPU, converted)
    assert transfer([0], 1) == [0, "before 1", "to cpu 1", "converted", "after 1"]


def test_without_hooks_the_batch_is_moved_and_converted():
    assert make_transfer(TrainModule(), DataModule(), CPU)([0], 0) == [0]
    assert make_transfer(TrainModule(), None, CPU, converted)([0], 0) == [0, "converted"]
    assert make_transfer(TrainModule(), None, META)([torch.zeros(1)], 0)[0].device == META


def test_a_hook_that_the_data_module_overrides_replaces_that_of_the_module():
    transfer = make_transfer(Hooked(), HookedData(), CPU)
    assert transfer([0], 0) == [0, "before 0", "to cpu 0", "after, by the data module"]


@pytest.mark.parametrize("name", ["on_before_batch_transfer", "transfer_batch_to_device", "on_after_batch_transfer"])
def test_a_hook_that_forgets_to_return_the_batch_is_named(name):
    module = type("Forgets", (TrainModule,), {name: lambda self, *args: None})()
    with pytest.raises(DataError, match=r"returned None; it must return the batch"):
        make_transfer(module, None, CPU)([0], 0)
