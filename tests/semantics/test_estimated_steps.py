"""How many updates a run will make, asked before it makes any."""

from __future__ import annotations

import pytest
import torch

from trainkit.callbacks import GradientAccumulationScheduler
from trainkit.testing import TinyData, TinyModule, quiet_trainer


class Asks(TinyModule):
    """Asks where schedules ask: in ``configure_optimizers``."""

    def configure_optimizers(self):
        self.estimate = self.trainer.estimated_stepping_batches
        return torch.optim.SGD(self.parameters(), lr=0.1)


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ({"max_epochs": 1}, 5),
        ({"max_epochs": 3}, 15),
        ({"max_epochs": 3, "accumulate_grad_batches": 2}, 9),
        ({"max_epochs": 3, "accumulate_grad_batches": 5}, 3),
        ({"max_epochs": 3, "limit_train_batches": 4, "accumulate_grad_batches": 2}, 6),
        ({"max_epochs": 3, "limit_train_batches": 0.5}, 6),
        ({"max_epochs": 3, "max_steps": 4}, 4),
        ({"max_epochs": 3, "max_steps": 400}, 15),
        ({"max_epochs": -1, "max_steps": 12}, 12),
        ({"max_epochs": 4, "accumulate_grad_batches": {0: 1, 2: 5}}, 12),
    ],
    ids=str,
)
def test_estimate_is_what_the_run_then_does(arguments, expected):
    module = Asks()
    trainer = quiet_trainer(**arguments)
    trainer.fit(module, TinyData(5))
    assert module.estimate == expected
    assert trainer.global_step == expected


@pytest.mark.parametrize(
    "arguments",
    [
        {"max_epochs": 3, "overfit_batches": 2},
        {"max_epochs": 3, "fast_dev_run": 3, "accumulate_grad_batches": 2},
        {"max_epochs": 4, "accumulate_grad_batches": {0: 3, 1: 2, 3: 1}, "limit_train_batches": 3},
        {"max_epochs": 2, "val_check_interval": "3 steps", "log_every_n_steps": "7 samples"},
        {"max_epochs": 2, "max_time": "2h"},
        {"max_steps": 7, "max_time": "2h", "val_check_interval": "10 samples"},
    ],
    ids=str,
)
def test_estimate_is_what_the_run_does_whatever_it_is_counted_by(arguments):
    module = Asks()
    trainer = quiet_trainer(**({"max_epochs": None} | arguments))
    trainer.fit(module, TinyData(5), TinyData(1))
    assert module.estimate == trainer.global_step


@pytest.mark.parametrize("is_of_module", [False, True])
def test_estimate_goes_by_the_callback_that_accumulates(is_of_module):
    callback = GradientAccumulationScheduler({0: 2, 1: 5})

    class HasIt(Asks):
        def configure_callbacks(self):
            return [callback] if is_of_module else []

    module = HasIt()
    trainer = quiet_trainer(max_epochs=3, callbacks=[] if is_of_module else [callback])
    trainer.fit(module, TinyData(5))
    assert module.estimate == trainer.global_step == 3 + 1 + 1


class Stream:
    """Batches whose number nobody knows ahead."""

    def __iter__(self):
        return iter(TinyData(5))


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ({"max_epochs": 2}, float("inf")),
        ({"max_steps": 7}, 7),
        ({"max_epochs": 2, "max_steps": 7}, 7),
        ({"max_epochs": 2, "limit_train_batches": 3}, 6),
        ({"max_epochs": 2, "max_steps": 8, "accumulate_grad_batches": 2}, 8),
    ],
    ids=str,
)
def test_estimate_of_a_stream_is_what_bounds_it(arguments, expected):
    module = Asks()
    trainer = quiet_trainer(**({"max_epochs": -1} | arguments))
    trainer.fit(module, Stream())
    assert module.estimate == expected
    assert trainer.global_step <= expected


def test_estimate_is_infinite_where_only_time_is_a_bound():
    module = Asks()
    quiet_trainer(max_epochs=None, max_time="0 s").fit(module, TinyData(5))
    assert module.estimate == float("inf")


def test_estimate_without_limits_is_infinite():
    class Stops(Asks):
        def on_train_batch_end(self):
            self.trainer.should_stop = True

    module = Stops()
    quiet_trainer(max_epochs=-1).fit(module, TinyData(5))
    assert module.estimate == float("inf")
