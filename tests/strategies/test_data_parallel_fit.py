"""Whole fits of a Trainer on two replicas against the same on one device."""

from __future__ import annotations

from typing import Any

import pytest

from trainkit.strategies import DataParallel, SingleDevice, Strategy
from trainkit.testing import TinyData, TinyModule, assert_same_weights, quiet_trainer


def fit(strategy: Strategy, **arguments: Any) -> tuple[TinyModule, dict[str, float]]:
    module = TinyModule()
    trainer = quiet_trainer(strategy=strategy, max_epochs=2, **arguments)
    # The last batch is smaller than the number of replicas.
    trainer.fit(module, TinyData(5, batch_size=7, last_batch_size=1), TinyData(2))
    return module, {name: float(value) for name, value in trainer.callback_metrics.items()}


@pytest.mark.parametrize("arguments", [{}, {"accumulate_grad_batches": 2}, {"precision": "64-true"}])
def test_weights_and_metrics_are_those_of_one_device(arguments: dict[str, Any]):
    expected, logged_by_one = fit(SingleDevice("cpu"), **arguments)
    module, logged = fit(DataParallel(["cpu", "cpu"]), **arguments)
    assert_same_weights(module, expected, atol=1e-6)
    assert logged == pytest.approx(logged_by_one, abs=1e-6)
    assert set(logged) == {"train/loss", "val/loss"}
