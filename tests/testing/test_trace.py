from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from trainkit.testing import TinyData, TinyModule, quiet_trainer
from trainkit.testing.trace import STOPS, Enough, RunTrace, digest, read_events, read_stops


def trace(folder: Path, batches: int = 6, *, saves: bool = True, **arguments: Any) -> None:
    folder.mkdir(exist_ok=True)
    options = {"max_epochs": 2, "accumulate_grad_batches": 2, "log_every_n_steps": 1}
    trainer = quiet_trainer(**(options | arguments), callbacks=[RunTrace(folder, batches, saves=saves)])
    with pytest.raises(Enough):
        trainer.fit(TinyModule(), TinyData(4), TinyData(2))


def test_two_equal_runs_leave_the_same_events(tmp_path: Path) -> None:
    for name in ("one", "two"):
        torch.manual_seed(0)
        trace(tmp_path / name)
    assert read_events(tmp_path / "one") == read_events(tmp_path / "two")


def test_a_batch_is_noted_behind_everything_it_meets_and_ahead_of_its_loss(tmp_path: Path) -> None:
    trace(tmp_path)
    events = read_events(tmp_path)
    first = [event.what for event in events if event.when == "epoch 0, batch 0"]
    assert first[:2] == ["parameter layer.weight", "parameter layer.bias"]
    assert "optimizer 0: lr" in first
    assert first[-5:] == [
        "random numbers of torch",
        "random numbers of random",
        "random numbers of numpy",
        "batch",
        "loss",
    ]
    assert [event.when for event in events if event.what == "loss"] == [
        *(f"epoch 0, batch {batch}" for batch in range(4)),
        *(f"epoch 1, batch {batch}" for batch in range(2)),
    ]
    assert [event.when for event in events if event.what == "validation batch"] == [
        f"epoch 0, validation after batch 3, loader 0, batch {batch}" for batch in range(2)
    ]
    assert [event.what for event in events if event.what.startswith("logged")] == [
        *("logged value epoch", "logged value train/loss") * 2,
        *("logged value epoch", "logged value val/loss"),
        *("logged value epoch", "logged value train/loss"),
    ]


def test_it_saves_once_at_each_kind_of_place_and_at_the_end(tmp_path: Path) -> None:
    trace(tmp_path)
    stops = read_stops(tmp_path)
    assert {stop.kind for stop in stops} == set(STOPS)
    assert [(stop.kind, stop.when) for stop in stops] == [
        ("first batch", "epoch 0, batch 0"),
        ("middle", "epoch 0, batch 1"),
        ("group", "epoch 0, batch 2"),
        ("validation", "epoch 0, validation after batch 3, loader 0, batch 0"),
        ("validated", "epoch 0, batch 3"),
        ("epoch", "epoch 0, batch 3"),
    ]
    counts = [stop.events for stop in stops]
    assert counts == sorted(counts)
    assert all((tmp_path / name).is_file() for name in ("end.ckpt", *(stop.checkpoint for stop in stops)))


def test_a_run_that_ends_by_itself_has_an_end_too(tmp_path: Path) -> None:
    trainer = quiet_trainer(callbacks=[RunTrace(tmp_path, 99, saves=False)])
    trainer.fit(TinyModule(), TinyData(2))
    assert (tmp_path / "end.ckpt").is_file()
    assert read_stops(tmp_path) == []


def test_a_digest_tells_values_apart_bit_by_bit() -> None:
    values = [
        torch.zeros(2),
        torch.tensor([0.0, -0.0]),
        torch.zeros(1, 2),
        torch.zeros(2, dtype=torch.float64),
        [torch.zeros(2)],
        {"a": torch.zeros(2)},
        {"b": torch.zeros(2)},
        np.zeros(2),
        0,
        0.0,
        False,
        "0",
        None,
        [1, [2]],
        [[1], 2],
    ]
    assert len({digest(value) for value in values}) == len(values)
    assert digest(torch.tensor(1.0).as_subclass(torch.nn.Parameter)) == digest(torch.tensor(1.0))


def test_objects_are_told_apart_by_what_they_hold() -> None:
    class Graph:
        def __init__(self, nodes: Any) -> None:
            self.nodes = nodes

    assert digest(Graph(torch.zeros(2))) == digest(Graph(torch.zeros(2))) != digest(Graph(torch.ones(2)))
    assert digest(object()) == digest(object())
