"""How many updates a run will make, asked before it makes any."""

from __future__ import annotations

import pytest
import torch

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
        ({"max_epochs": 2, "val_check_interval": "3 steps", "log_every_n_steps": "7 samples"}, 10),
        ({"max_epochs": -1, "max_steps": 7, "max_time": "2h", "val_check_interval": "10 samples"}, 7),
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


def test_estimate_without_limits_is_infinite():
    class Stops(Asks):
        def on_train_batch_end(self):
            self.trainer.should_stop = True

    module = Stops()
    quiet_trainer(max_epochs=-1).fit(module, TinyData(5))
    assert module.estimate == float("inf")
