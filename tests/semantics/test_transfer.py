"""What happens to a batch on its way to the device."""

from __future__ import annotations

from collections import namedtuple
from dataclasses import dataclass
from typing import Any

import pytest
import torch

from trainkit import DataModule
from trainkit.callbacks import Callback
from trainkit.testing import TinyData, TinyModule, quiet_trainer

Pair = namedtuple("Pair", ["first", "second"])


class Movable:
    """Anything with a ``to``; says where it is."""

    def __init__(self, where="here"):
        self.where = where

    def to(self, device):
        return Movable(str(device))


@dataclass
class Sample:
    """A dataclass as a batch."""

    x: Any
    label: str = "label"


class Opaque:
    """Cannot move."""


OPAQUE = Opaque()

NESTINGS = {
    "tuple": (lambda leaf: (leaf, 1), lambda batch: batch[0]),
    "list": (lambda leaf: [leaf, "text"], lambda batch: batch[0]),
    "dict": (lambda leaf: {"x": leaf, "n": None}, lambda batch: batch["x"]),
    "namedtuple": (lambda leaf: Pair(leaf, 2.0), lambda batch: batch.first),
    "dataclass": (lambda leaf: Sample(leaf), lambda batch: batch.x),
    "deep": (lambda leaf: {"a": [(Pair(1, Sample(leaf)),)]}, lambda batch: batch["a"][0][0].second.x),
    "bare": (lambda leaf: leaf, lambda batch: batch),
}


class Catches(TinyModule):
    """Keeps the batches its steps got."""

    def __init__(self):
        super().__init__()
        self.got = []

    def training_step(self, batch, batch_idx):
        self.got.append(batch)
        return self.layer.weight.sum()

    def validation_step(self, batch, batch_idx):
        self.got.append(batch)

    test_step = predict_step = validation_step


@pytest.mark.parametrize("nesting", NESTINGS)
def test_batches_of_any_nesting_move(nesting):
    wrap, leaf_of = NESTINGS[nesting]
    module = Catches()
    quiet_trainer().fit(module, [wrap(Movable())])
    (batch,) = module.got
    assert leaf_of(batch).where == "cpu"
    assert type(batch) is type(wrap(Movable()))


@pytest.mark.parametrize("nesting", NESTINGS)
def test_precision_converts_floating_point_tensors_at_any_depth(nesting):
    wrap, leaf_of = NESTINGS[nesting]
    for leaf, expected in ((torch.zeros(2), torch.float64), (torch.zeros(2, dtype=torch.long), torch.long)):
        module = Catches()
        quiet_trainer(precision="64-true").fit(module, [wrap(leaf)])
        assert leaf_of(module.got[0]).dtype == expected


def test_what_cannot_move_stays():
    module = Catches()
    batch = (torch.zeros(2), "text", 3, None, OPAQUE, {"bytes": b"b"})
    quiet_trainer().fit(module, [batch])
    (got,) = module.got
    assert got[1:] == batch[1:]
    assert got[4] is OPAQUE


@pytest.mark.parametrize("stage", ["fit", "validate", "test", "predict"])
def test_the_three_hooks_are_called_in_order_and_their_results_are_used(stage):
    class Module(Catches):
        def on_before_batch_transfer(self, batch, dataloader_idx):
            return [*batch, "before"]

        def transfer_batch_to_device(self, batch, device, dataloader_idx):
            return [*super().transfer_batch_to_device(batch, device, dataloader_idx), device.type]

        def on_after_batch_transfer(self, batch, dataloader_idx):
            return [*batch, "after", dataloader_idx]

    module = Module()
    getattr(quiet_trainer(), stage)(module, [[0]])
    assert module.got == [[0, "before", "cpu", "after", 0]]


def test_transfer_hooks_know_whether_they_are_in_training():
    seen = []

    class Module(TinyModule):
        def on_after_batch_transfer(self, batch, dataloader_idx):
            seen.append((self.trainer.training, self.trainer.validating))
            return batch

    quiet_trainer().fit(Module(), TinyData(1), TinyData(1))
    assert seen[0][0] is True
    assert seen[1][0] is False


def test_an_object_may_be_the_data_module_and_a_callback():
    called = []

    class Both(DataModule, Callback):
        def train_dataloader(self):
            return TinyData(2)

        def on_after_batch_transfer(self, batch, dataloader_idx):
            called.append("transfer")
            return batch

        def on_train_epoch_end(self):
            called.append("epoch")

    both = Both()
    quiet_trainer(callbacks=[both]).fit(TinyModule(), datamodule=both)
    assert called == ["transfer", "transfer", "epoch"]
