from __future__ import annotations

from typing import Any

import pytest

from trainkit.callbacks import GradientAccumulationScheduler
from trainkit.errors import ConfigError
from trainkit.testing import TinyData, TinyModule, assert_same_weights, quiet_trainer


def fit(callbacks: Any = (), **arguments: Any) -> tuple[Any, TinyModule]:
    trainer, module = quiet_trainer(max_epochs=4, callbacks=list(callbacks), **arguments), TinyModule()
    trainer.fit(module, TinyData(6))
    return trainer, module


def test_it_is_the_same_as_the_argument_of_the_trainer() -> None:
    trainer, module = fit([GradientAccumulationScheduler({1: 2, 3: 6})])
    assert trainer.global_step == 6 + 3 + 3 + 1
    assert_same_weights(module, fit(accumulate_grad_batches={0: 1, 1: 2, 3: 6})[1])


def test_until_the_first_epoch_that_is_named_it_is_one() -> None:
    assert GradientAccumulationScheduler({4: 2, 2: 3}).scheduling == {0: 1, 2: 3, 4: 2}
    assert not GradientAccumulationScheduler({0: 1}).going_to_accumulate_grad_batches()


def test_two_schedules_contradict_each_other() -> None:
    with pytest.raises(ConfigError, match=r"accumulate_grad_batches=\{0: 2\}.*contradict"):
        fit([GradientAccumulationScheduler({0: 4})], accumulate_grad_batches=2)


def test_manual_optimization_accumulates_by_itself() -> None:
    class Manual(TinyModule):
        def __init__(self) -> None:
            super().__init__()
            self.automatic_optimization = False

    with pytest.raises(ConfigError, match="Manual has automatic_optimization = False"):
        quiet_trainer(callbacks=[GradientAccumulationScheduler({0: 2})]).fit(Manual(), TinyData(1))


@pytest.mark.parametrize(
    ("scheduling", "message"),
    [
        ({}, "must map epochs to batches per update"),
        (4, "must map epochs to batches per update"),
        ({-1: 2}, "-1 is no epoch"),
        ({"0": 2}, "'0' is no epoch"),
        ({0: 0}, "0 is no number of batches"),
        ({0: True}, "True is no number of batches"),
    ],
)
def test_impossible_schedules_are_refused(scheduling: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        GradientAccumulationScheduler(scheduling)
