"""What is read off a Trainer."""

from __future__ import annotations

import pytest

from trainkit.testing import TinyData, TinyModule, quiet_trainer


@pytest.mark.parametrize("precision", ["32-true", "64-true", "bf16-mixed"])
def test_a_precision_is_printed_by_its_name(precision):
    assert str(quiet_trainer(precision=precision).precision) == precision


def test_a_strategy_has_lightnings_names():
    trainer = quiet_trainer()
    strategy = trainer.strategy
    trainer.fit(TinyModule(), TinyData(1))
    assert (strategy.root_device, strategy.global_rank, strategy.is_global_zero) == (strategy.device, 0, True)
    assert strategy.broadcast("value") == "value"
    weights = TinyModule().layer.weight
    assert strategy.reduce(weights, reduce_op="sum") is weights


def test_where_the_time_went_is_known_to_who_has_asked():
    trainer = quiet_trainer(max_epochs=1)
    trainer.fit(TinyModule(), TinyData(1))
    assert trainer.timing is None
    trainer = quiet_trainer(max_epochs=1, profiler="simple")
    assert trainer.timing is None
    trainer.fit(TinyModule(), TinyData(1))
    assert trainer.timing.steps == 1
