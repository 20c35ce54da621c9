"""What is read off a Trainer."""

from __future__ import annotations

import math

import pytest

from trainkit import Trainer
from trainkit.testing import Recorder, TinyData, TinyModule, quiet_trainer
from trainkit.types import Phase, Stage


def test_the_length_of_an_epoch_is_infinite_where_nobody_knows_it():
    trainer = quiet_trainer()
    assert trainer.num_training_batches == math.inf
    trainer.validate(TinyModule(), TinyData(2), verbose=False)
    assert trainer.num_training_batches == math.inf
    trainer.fit(TinyModule(), TinyData(3))
    assert trainer.num_training_batches == 3


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


def test_a_state_tells_what_was_asked_for_and_what_runs():
    recorder = Recorder(
        ["on_fit_start", "on_train_batch_start", "on_validation_start", "on_sanity_check_start"],
        look=lambda trainer, module: (trainer.state.fn, trainer.state.stage, trainer.evaluating),
    )
    trainer = quiet_trainer(callbacks=[recorder], num_sanity_val_steps=1)
    assert (trainer.state.fn, trainer.state.stage) == (None, None)
    trainer.fit(TinyModule(), TinyData(1), TinyData(1))
    assert [(call.hook, call.seen) for call in recorder.calls] == [
        ("on_fit_start", (Stage.FIT, Phase.TRAIN, False)),
        ("on_sanity_check_start", (Stage.FIT, Phase.SANITY_CHECK, True)),
        ("on_validation_start", (Stage.FIT, Phase.SANITY_CHECK, True)),
        ("on_train_batch_start", (Stage.FIT, Phase.TRAIN, False)),
        ("on_validation_start", (Stage.FIT, Phase.VALIDATE, True)),
    ]
    assert (trainer.state.fn, trainer.state.stage, trainer.state.finished) == (Stage.FIT, None, True)


def test_what_is_prepared_counts_as_running_whatever_ran_before():
    recorder = Recorder(["setup"], look=lambda trainer, module: trainer.state.stage)
    trainer = quiet_trainer(callbacks=[recorder])
    trainer.fit(TinyModule(), TinyData(1))
    trainer.validate(TinyModule(), TinyData(1), verbose=False)
    assert [call.seen for call in recorder.calls] == [Phase.TRAIN, Phase.VALIDATE]


def test_a_fast_dev_run_tells_how_short_it_is():
    trainer = quiet_trainer(fast_dev_run=3, max_epochs=None)
    assert (trainer.max_epochs, trainer.max_steps) == (1, 3)


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
