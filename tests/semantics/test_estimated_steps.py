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
        ({"max_epochs": 2, "val_check_interval": "3 steps", "log_every_n_steps": "7 samples"}, 10),
        ({"max_epochs": -1, "max_steps": 7, "max_time": "2h", "val_check_interval": "10 samples"}, 7),
        ({"max_epochs": 4, "accumulate_grad_batches": {0: 1, 2: 5}}, 12),
        ({"max_epochs": 3, "accumulate_grad_batches": "auto"}, 15),
        ({"max_epochs": 3, "max_time": {"hours": 1}}, 15),
        ({"max_epochs": 3, "overfit_batches": 2}, 6),
        ({"max_epochs": 3, "fast_dev_run": 4, "accumulate_grad_batches": 3}, 2),
        ({"max_epochs": None, "max_steps": 12}, 12),
        ({"max_epochs": 0}, 0),
    ],
    ids=str,
)
@pytest.mark.filterwarnings("ignore:accumulate_grad_batches=5 is more than")
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


class Stream:
    """Batches that do not say how many they are."""

    def __iter__(self):
        return iter(TinyData(9))


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [({}, float("inf")), ({"max_steps": 7}, 7), ({"limit_train_batches": 4, "accumulate_grad_batches": 3}, 4)],
    ids=str,
)
def test_estimate_for_a_loader_without_length(arguments, expected):
    module = Asks()
    trainer = quiet_trainer(max_epochs=2, **arguments)
    trainer.fit(module, Stream())
    assert module.estimate == expected
    assert trainer.global_step == min(expected, 18)


@pytest.mark.parametrize("brings", [True, False])
def test_an_accumulation_that_a_callback_sets_counts(brings):
    callbacks = [GradientAccumulationScheduler({0: 2, 1: 4})]

    class Brings(Asks):
        def configure_callbacks(self):
            return callbacks if brings else []

    module = Brings()
    trainer = quiet_trainer(max_epochs=3, callbacks=[] if brings else callbacks)
    trainer.fit(module, TinyData(4))
    assert module.estimate == trainer.global_step == 4


@pytest.mark.parametrize("batches", [4, 2], ids=["between epochs", "in an epoch"])
def test_a_resumed_fit_is_the_whole_and_one_that_counts_on_the_rest(tmp_path, batches):
    trainer = quiet_trainer(max_epochs=9, max_steps=8 + batches)
    trainer.fit(Asks(), TinyData(4))
    trainer.save_checkpoint(tmp_path / "a.ckpt")
    module, before = Asks(), trainer.global_step
    trainer.max_epochs, trainer.max_steps = 5, -1
    trainer.fit(module, TinyData(4))
    assert module.estimate == trainer.global_step - before
    assert trainer.estimated_stepping_batches == module.estimate  # whenever it is asked
    resumed = quiet_trainer(max_epochs=5)
    resumed.fit(module, TinyData(4), ckpt_path=tmp_path / "a.ckpt")
    assert module.estimate == resumed.global_step == 20


def test_loaders_that_are_made_anew_count_as_long_as_they_were(tmp_path):
    class Grows(Asks):
        def train_dataloader(self):
            return TinyData(2 + self.current_epoch)

        def on_train_epoch_start(self):
            self.asked = [*getattr(self, "asked", []), self.trainer.estimated_stepping_batches]

        def on_train_epoch_end(self):
            assert self.trainer.estimated_stepping_batches == self.asked[-1]
            self.trainer.save_checkpoint(tmp_path / f"{self.current_epoch}.ckpt")

    module = Grows()
    arguments = {"max_epochs": 3, "reload_dataloaders_every_n_epochs": 1}
    trainer = quiet_trainer(**arguments)
    trainer.fit(module, None)
    assert module.asked == [2 + 2 + 2, 2 + 3 + 3, 2 + 3 + 4]
    assert trainer.global_step == 9
    resumed = Grows()
    quiet_trainer(**arguments).fit(resumed, ckpt_path=tmp_path / "1.ckpt")
    assert resumed.estimate == 2 + 3 + 3
