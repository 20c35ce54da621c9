"""What programs change on a Trainer: between two calls, and how long it trains also during one."""

from __future__ import annotations

from typing import Any

import pytest
import torch

import trainkit.compat.lightning as pl
from trainkit.errors import ConfigError
from trainkit.testing import TinyData, TinyModule

QUIET: dict[str, Any] = {
    "accelerator": "cpu",
    "max_epochs": 1,
    "num_sanity_val_steps": 0,
    "logger": False,
    "enable_progress_bar": False,
    "enable_model_summary": False,
    "enable_checkpointing": False,
}


def test_a_second_fit_goes_on_to_a_new_limit() -> None:
    trainer, module = pl.Trainer(**QUIET), TinyModule()
    trainer.fit(module, TinyData(2))
    trainer.fit_loop.max_epochs += 2
    trainer.fit(module, TinyData(2))
    assert (trainer.global_step, trainer.max_epochs, trainer.fit_loop.epoch_progress.current.completed) == (6, 3, 3)


def test_a_limit_set_during_a_fit_ends_it() -> None:
    class Ends(pl.Callback):
        def on_train_batch_end(self, trainer: Any, *args: Any) -> None:
            trainer.fit_loop.epoch_loop.max_steps = 3

    trainer = pl.Trainer(**QUIET | {"max_epochs": 5}, callbacks=[Ends()])
    trainer.fit(TinyModule(), TinyData(2))
    assert trainer.global_step == 3


def test_settings_hold_from_the_next_call_on() -> None:
    trainer, module = pl.Trainer(**QUIET), TinyModule()
    trainer.limit_train_batches, trainer.accumulate_grad_batches, trainer.limit_test_batches = 2, 2, 1
    trainer.fit(module, TinyData(5))
    assert (trainer.global_step, trainer.progress.total_batches) == (1, 2)
    trainer.test(module, TinyData(5), verbose=False)
    assert trainer.num_test_batches == [1]
    with pytest.raises(ConfigError, match="limit_val_batches=-1"):
        trainer.limit_val_batches = -1


def test_a_setting_that_would_come_too_late_is_refused() -> None:
    class Late(pl.Callback):
        def on_train_epoch_start(self, trainer: Any, pl_module: Any) -> None:
            trainer.accumulate_grad_batches = 4

    trainer = pl.Trainer(**QUIET, callbacks=[Late()])
    with pytest.raises(ConfigError, match=r"accumulate_grad_batches = 4 came while trainer\.fit\(\) is running"):
        trainer.fit(TinyModule(), TinyData(2))


def test_loggers_and_callbacks_may_be_exchanged_between_calls() -> None:
    class Counts(pl.Callback):
        fits = 0

        def on_fit_start(self, trainer: Any, pl_module: Any) -> None:
            self.fits += 1

    first, second = Counts(), Counts()
    trainer, module = pl.Trainer(**QUIET, callbacks=[first]), TinyModule()
    trainer.fit(module, TinyData(1))
    trainer.callbacks.remove(first)
    trainer.callbacks.append(second)
    trainer.logger = pl.loggers.logger.DummyLogger()
    trainer.fit_loop.max_epochs = 2
    trainer.fit(module, TinyData(1))
    assert (first.fits, second.fits) == (1, 1)
    assert isinstance(trainer.logger, pl.loggers.logger.DummyLogger)
    assert trainer.hooks.is_registered(trainer.logger)


def test_optimizers_may_be_exchanged_during_a_fit() -> None:
    class Freezes(pl.Callback):
        def on_train_epoch_start(self, trainer: Any, pl_module: Any) -> None:
            if trainer.current_epoch == 1:
                self.weight = pl_module.layer.weight.clone()
                trainer.optimizers = [torch.optim.SGD([pl_module.layer.bias], lr=0.1)]

    freezes = Freezes()
    module = TinyModule()
    pl.Trainer(**QUIET | {"max_epochs": 2}, callbacks=[freezes]).fit(module, TinyData(2))
    assert torch.equal(module.layer.weight, freezes.weight)


def test_a_precision_equals_its_name() -> None:
    trainer = pl.Trainer(**QUIET, precision="bf16-mixed")
    assert trainer.precision == "bf16-mixed" and trainer.precision != "32-true"
    assert trainer.precision == trainer.precision_plugin


def test_intervals_with_units_are_settings_too() -> None:
    validated: list[int] = []

    class Looks(pl.Callback):
        def on_validation_start(self, trainer: Any, pl_module: Any) -> None:
            validated.append(trainer.progress.total_batches)

    trainer = pl.Trainer(**QUIET, val_check_interval="2 batches", log_every_n_steps="1k samples", callbacks=[Looks()])
    trainer.fit(TinyModule(), TinyData(5), TinyData(1))
    trainer.val_check_interval, trainer.max_epochs = "9 samples", 2
    trainer.fit(TinyModule(), TinyData(5), TinyData(1))
    # Of three samples each, which were counted in the first fit too, as rows go by them.
    assert validated == [2, 4, 6, 9]
