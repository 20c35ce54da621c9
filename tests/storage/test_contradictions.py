"""Checkpoints in which one place denies what another says."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import pytest
import torch

from trainkit.callbacks import Callback
from trainkit.storage.layout import misfit
from trainkit.testing import TinyData, TinyModule, quiet_trainer


@pytest.mark.parametrize(
    ("place", "value", "told"),
    [
        (("epoch",), 7, "epoch is 7, and loops.fit.epoch is 1"),
        (("trainkit", "ranks"), [], "trainkit.ranks is empty"),
        (("loops", "fit", "group_batches"), 1, r"ranks\[0\].group is None, and loops.fit.group_batches is 1"),
        (
            ("trainkit", "ranks", 0, "rng", "torch"),
            torch.zeros(3),
            "rng.torch is a Tensor, and a tensor of torch.uint8",
        ),
        (("trainkit",), {}, ""),
        (("trainkit",), 1, "trainkit is 1, and a dict was expected"),
        (("trainkit", "format"), "x", "trainkit.format is 'x', and a count was expected"),
    ],
)
def test_places_that_contradict_each_other_are_told(place: Any, value: Any, told: str) -> None:
    trainer = quiet_trainer(max_epochs=1)
    trainer.fit(TinyModule(), TinyData(2))
    checkpoint: Any = trainer.dump_checkpoint()
    inner = checkpoint
    for key in place[:-1]:
        inner = inner[key]
    inner[place[-1]] = value
    assert re.search(told, misfit(checkpoint)) and bool(told) == bool(misfit(checkpoint))


@pytest.mark.parametrize("key", ["place", "loaders"])
def test_a_value_of_a_loader_that_there_is_not_is_told(key: str) -> None:
    class Saves:
        def on_train_batch_end(self, trainer: Any) -> None:
            self.checkpoint = trainer.dump_checkpoint()

    plugin = Saves()
    quiet_trainer(max_steps=1, callbacks=[plugin]).fit(TinyModule(), TinyData(2))
    log = plugin.checkpoint["trainkit"]["ranks"][0]["metrics"]["phases"]["train"]
    assert misfit(plugin.checkpoint) == "" and log["slots"]
    number = log["num_dataloaders"]
    log["slots"][0][key] = number if key == "place" else [number]
    told = f"metrics.phases.train has {number} dataloaders, and values of number {number}"
    assert misfit(plugin.checkpoint) == f"trainkit.ranks[0].{told}"


@pytest.mark.parametrize("shares_all", [True, False])
def test_one_state_in_the_place_of_many_ranks_is_looked_at_once(shares_all: bool) -> None:
    class Slots(list[Any]):
        looks = 0

        def __iter__(self) -> Iterator[Any]:
            Slots.looks += 1
            return super().__iter__()

    saved: list[dict[str, Any]] = []

    class Saves(Callback):
        def on_train_batch_end(self, trainer: Any) -> None:
            saved.append(trainer.dump_checkpoint())

    quiet_trainer(callbacks=[Saves()]).fit(TinyModule(), TinyData(2))
    checkpoint = saved[0]
    rank = checkpoint["trainkit"]["ranks"][0]
    train = rank["metrics"]["phases"]["train"]
    train["slots"] = Slots(train["slots"])
    checkpoint["trainkit"]["ranks"] = [rank if shares_all else dict(rank) for _ in range(100)]
    assert misfit(checkpoint) == ""
    assert Slots.looks == 2, "once for the types, and once for what contradicts"
