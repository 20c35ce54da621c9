"""A loss that is not finite is told, or ends the fit before the weights are lost."""

from __future__ import annotations

import warnings

import pytest
import torch

from trainkit.errors import ConfigError, NonFiniteLossError
from trainkit.testing import TinyData, TinyModule, quiet_trainer


class Breaks(TinyModule):
    """Its loss is NaN, or infinite, from the third batch on."""

    def __init__(self, value=float("nan")):
        super().__init__()
        self.value = value

    def training_step(self, batch, batch_idx):
        loss = self.loss(batch) * (self.value if batch_idx >= 2 else 1.0)
        self.log("train/loss", loss, on_step=True, on_epoch=True)
        self.log("train/undefined", float("nan"))
        return loss


def fit(module, **arguments):
    quiet_trainer(log_every_n_steps=1, **arguments).fit(module, TinyData(5))
    return module


def test_it_is_told_once_where_it_is_read():
    with pytest.warns(
        UserWarning, match=r"train/loss_step is nan in epoch 0, at step 3.*on_nonfinite_loss='stop'"
    ) as told:
        fit(Breaks(), max_epochs=2)
    assert len([each for each in told if "nan" in str(each.message)]) == 1


@pytest.mark.parametrize("options", [{}, {"prog_bar": True, "logger": False}])
@pytest.mark.parametrize("arguments", [{}, {"fast_dev_run": 3}, {"max_steps": 4}, {"log_every_n_steps": 0}])
def test_it_is_told_at_the_end_of_a_fit_that_is_shorter_than_a_row(options, arguments):
    class Short(TinyModule):
        def training_step(self, batch, batch_idx):
            loss = self.loss(batch) * float("nan")
            self.log("loss", loss, **options)
            return loss

    with pytest.warns(UserWarning, match=r"^loss is nan when training ends, at step \d") as told:
        quiet_trainer(**({"max_epochs": 1} | arguments)).fit(Short(), TinyData(5))
    assert len(told) == 1


def test_what_is_not_trained_by_is_not_said_to_make_weights_nan():
    class Best(TinyModule):
        def validation_step(self, batch, batch_idx):
            self.log("val/best_loss", float("inf"))

    module = Best()
    with pytest.warns(UserWarning, match=r"val/best_loss is inf.* NaN where it is what they are trained by"):
        quiet_trainer(max_epochs=1).fit(module, TinyData(2), TinyData(1))
    assert all(parameter.isfinite().all() for parameter in module.parameters())


def test_the_loss_of_training_is_told_first_though_no_row_was_due():
    class Ends(Breaks):
        def training_step(self, batch, batch_idx):
            loss = self.loss(batch) * (self.value if batch_idx >= 2 else 1.0)
            self.log("train/loss", loss)
            return loss

    trainer = quiet_trainer(log_every_n_steps=50)
    with pytest.warns(UserWarning, match=r"train/loss is nan, val/loss is nan in epoch 0, at step 5 or before\."):
        trainer.fit(Ends(), TinyData(5), TinyData(1))


def test_an_undefined_metric_is_no_loss():
    class Undefined(TinyModule):
        def training_step(self, batch, batch_idx):
            self.log("auroc", float("nan"))
            return self.loss(batch)

    fit(Undefined())


def test_it_may_be_ignored():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        fit(Breaks(), on_nonfinite_loss="ignore")


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize("arguments", [{}, {"accumulate_grad_batches": 2}, {"precision": "bf16-mixed"}], ids=str)
def test_it_may_end_the_fit_with_the_weights_as_they_were(value, arguments):
    module = Breaks(value)
    with pytest.raises(NonFiniteLossError, match=r"in batch 2 of epoch 0, at step [12]\. The weights are as they were"):
        fit(module, on_nonfinite_loss="stop", **arguments)
    assert all(parameter.isfinite().all() for parameter in module.parameters())


def test_it_may_end_a_fit_with_manual_optimization():
    class Manual(Breaks):
        automatic_optimization = False

        def training_step(self, batch, batch_idx):
            loss = super().training_step(batch, batch_idx)
            optimizer = self.optimizers()
            optimizer.zero_grad()
            self.manual_backward(loss)
            optimizer.step()

    with pytest.raises(NonFiniteLossError):
        fit(Manual(), on_nonfinite_loss="stop")


def test_another_word_is_refused():
    with pytest.raises((ConfigError, ValueError), match="on_nonfinite_loss"):
        quiet_trainer(on_nonfinite_loss="raise")


def test_a_finite_loss_costs_no_plugin():
    trainer = quiet_trainer()
    trainer.fit(TinyModule(), TinyData(2))
    assert torch.isfinite(trainer.module.layer.weight).all()
    assert "StopOnNonFiniteLoss" not in [name for name, _ in trainer.hooks.plugins]
