"""A Trainer's arguments are its properties."""

from __future__ import annotations

from trainkit import Trainer
from trainkit.testing import quiet_trainer


def test_settings_are_read_as_they_were_given():
    given = {
        "limit_train_batches": 0.5,
        "limit_val_batches": 3,
        "limit_test_batches": 2,
        "limit_predict_batches": 0.25,
        "val_check_interval": 0.5,
        "reload_dataloaders_every_n_epochs": 2,
    }
    trainer = Trainer(accelerator="cpu", logger=False, enable_progress_bar=False, **given)
    assert {name: getattr(trainer, name) for name in given} == given
    assert trainer.overfit_batches == 0.0


def test_a_fast_dev_run_tells_how_short_it_is():
    trainer = quiet_trainer(fast_dev_run=3, max_epochs=None)
    assert (trainer.max_epochs, trainer.max_steps) == (1, 3)
