"""A number from a file never decides how long a fit looks for its place."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils.data import DataLoader, IterableDataset, TensorDataset

from trainkit.data.resume.plausible import MOST_BATCHES, check_counters, check_place
from trainkit.errors import CheckpointError
from trainkit.progress import Progress
from trainkit.storage.files import read_checkpoint, write_checkpoint
from trainkit.testing import TinyModule, quiet_trainer

HUGE = 10**12
ROWS = TensorDataset(torch.ones(12, 4), torch.ones(12, 2))


class Endless(IterableDataset[Any]):
    def __iter__(self) -> Iterator[Any]:
        return itertools.repeat((torch.ones(4), torch.ones(2)))


class EndlessSampler(torch.utils.data.Sampler[int]):
    def __iter__(self) -> Iterator[int]:
        return itertools.cycle(range(12))


class Stateful:
    """Keeps its own place, and has no end."""

    def __iter__(self) -> Iterator[Any]:
        return itertools.repeat((torch.ones(2, 4), torch.ones(2, 2)))

    def state_dict(self) -> dict[str, Any]:
        return {"place": 0}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        pass


LOADERS: dict[str, Any] = {
    "rows": lambda: DataLoader(ROWS, 2),
    "sampler": lambda: DataLoader(ROWS, 2, sampler=EndlessSampler()),
    "stream": lambda: DataLoader(Endless(), 2),
    "stateful": Stateful,
}
COUNTERS = ("given", "drawn", "again", "begun", "batch", "epoch", "global_step", "total_batches", "validation_batch")


def fit(loader: Any, **arguments: Any) -> Any:
    trainer = quiet_trainer(max_steps=arguments.pop("max_steps"), limit_train_batches=6)
    trainer.fit(TinyModule(), loader, **arguments)
    return trainer


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("counter", COUNTERS)
@pytest.mark.parametrize("kind", LOADERS)
def test_a_huge_counter_does_not_hang(tmp_path: Path, kind: str, counter: str) -> None:
    path = tmp_path / "a.ckpt"
    fit(LOADERS[kind](), max_steps=3).save_checkpoint(path)
    checkpoint = read_checkpoint(path)
    (cursor,) = checkpoint["trainkit"]["ranks"][0]["data"]["train"]["cursors"]
    held = next((each for each in (cursor, checkpoint["loops"]["fit"]) if counter in each), None)
    if held is None:
        pytest.skip("loaders of this kind do not count it")
    held[counter] = HUGE
    write_checkpoint(checkpoint, path)
    # Either it is refused by its name, or it changes nothing that takes long.
    try:
        fit(LOADERS[kind](), max_steps=5, ckpt_path=path)
    except CheckpointError as error:
        assert str(HUGE) in str(error) or "other" in str(error)


def test_batches_that_nobody_has_counted_are_refused() -> None:
    check_counters(Progress(batch=MOST_BATCHES), "a.ckpt")
    with pytest.raises(CheckpointError, match=r"a.ckpt says validation_batch=10\d+, which no run has come to"):
        check_counters(Progress(validation_batch=10 * MOST_BATCHES), "a.ckpt")


@pytest.mark.parametrize("wrong", [{"given": 6}, {"given": 3, "drawn": 2}, {"given": 3, "again": 4}, {"drawn": HUGE}])
def test_a_place_that_contradicts_the_counters_is_refused(wrong: dict[str, int]) -> None:
    progress = Progress(batch=3, validation_batch=3)
    right, bad = {"cursors": [{"given": 3}]}, {"cursors": [{"given": 3} | wrong]}
    check_place(progress, {"train": right, "val": [right]}, "a.ckpt", in_training=True)
    for data in ({"train": bad, "val": [right]}, {"train": right, "val": [bad]}):
        with pytest.raises(CheckpointError, match="a.ckpt contradicts itself: 3 batches are done"):
            check_place(progress, data, "a.ckpt", in_training=True)
    check_place(progress, {"train": bad, "val": [right]}, "a.ckpt", in_training=False)
