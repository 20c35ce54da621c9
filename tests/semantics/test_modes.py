"""Gradient modes, and train and eval modes."""

from __future__ import annotations

import pytest
import torch

from trainkit.testing import TinyData, TinyModule, quiet_trainer


class Modes(TinyModule):
    """Notes the gradient mode of each evaluation step, and all train modes of each step."""

    def __init__(self):
        super().__init__()
        self.frozen = torch.nn.Sequential(torch.nn.Linear(4, 4), torch.nn.Dropout())
        self.gradient_modes = []
        self.train_modes = []

    def note(self):
        self.gradient_modes.append((torch.is_grad_enabled(), torch.is_inference_mode_enabled()))
        self.train_modes.append((self.training, self.layer.training, self.frozen.training, self.frozen[1].training))

    def training_step(self, batch, batch_idx):
        self.note()
        return self.loss(batch)

    def validation_step(self, batch, batch_idx):
        self.note()

    test_step = validation_step

    def predict_step(self, batch, batch_idx):
        self.note()


GRAD, NO_GRAD, INFERENCE = (True, False), (False, False), (False, True)


def test_validation_within_fit_uses_no_grad():
    module = Modes()
    quiet_trainer().fit(module, TinyData(1), TinyData(1))
    assert module.gradient_modes == [GRAD, NO_GRAD]


@pytest.mark.parametrize("stage", ["validate", "test", "predict"])
def test_evaluation_alone_uses_inference_mode_unless_told_otherwise(stage):
    module = Modes()
    getattr(quiet_trainer(), stage)(module, TinyData(1))
    getattr(quiet_trainer(inference_mode=False), stage)(module, TinyData(1))
    assert module.gradient_modes == [INFERENCE, NO_GRAD]


def test_gradients_are_enabled_again_after_each_entry_point():
    for stage in ("fit", "validate", "test", "predict"):
        getattr(quiet_trainer(), stage)(TinyModule(), TinyData(1))
        assert torch.is_grad_enabled()
        assert not torch.is_inference_mode_enabled()


def test_gradients_are_enabled_again_after_an_exception_in_validation():
    class Module(TinyModule):
        def validation_step(self, batch, batch_idx):
            raise RuntimeError("boom")

    module = Module()
    for run in (
        lambda: quiet_trainer().fit(module, TinyData(1), TinyData(1)),
        lambda: quiet_trainer().validate(module, TinyData(1)),
    ):
        with pytest.raises(RuntimeError, match="boom"):
            run()
        assert torch.is_grad_enabled()
        assert not torch.is_inference_mode_enabled()


def test_modes_are_put_back_per_submodule_after_validation_so_that_a_frozen_one_stays_in_eval():
    module = Modes()
    module.frozen.eval()
    quiet_trainer(val_check_interval=1).fit(module, TinyData(2), TinyData(1))
    training = (True, True, False, False)
    assert module.train_modes == [training, (False,) * 4] * 2
    assert (module.training, module.frozen.training, module.frozen[1].training) == (True, False, False)


def test_only_a_part_of_a_frozen_submodule_in_eval_stays_so():
    module = Modes()
    module.frozen[1].eval()
    quiet_trainer(val_check_interval=1).fit(module, TinyData(2), TinyData(1))
    assert module.train_modes == [(True, True, True, False), (False,) * 4] * 2


@pytest.mark.parametrize("stage", ["validate", "test", "predict"])
def test_modes_are_put_back_after_evaluation_alone(stage):
    module = Modes()
    module.frozen.eval()
    getattr(quiet_trainer(), stage)(module, TinyData(1))
    assert module.train_modes == [(False,) * 4]
    assert (module.training, module.layer.training, module.frozen.training) == (True, True, False)
