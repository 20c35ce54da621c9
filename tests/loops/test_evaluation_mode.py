from __future__ import annotations

import pytest
import torch

from trainkit.loops.evaluation_mode import evaluation_mode
from trainkit.testing import TinyData, TinyModule, quiet_trainer
from trainkit.types import Phase


@pytest.fixture
def run():
    trainer = quiet_trainer()
    trainer.fit(TinyModule(), TinyData(1))
    return trainer.fit_run


PHASES = [
    (Phase.SANITY_CHECK, "validation"),
    (Phase.VALIDATE, "validation"),
    (Phase.TEST, "test"),
    (Phase.PREDICT, "predict"),
]


@pytest.mark.parametrize(("phase", "name"), PHASES)
def test_inside_a_module_is_evaluated_and_outside_it_is_as_it_was(run, phase, name):
    run.module.train()
    with evaluation_mode(run, phase):
        assert not run.module.layer.training
        assert not torch.is_grad_enabled()
        assert run.phase is phase
    assert run.module.layer.training
    assert torch.is_grad_enabled()
    assert run.phase is Phase.TRAIN


def test_all_is_put_back_after_an_exception(run):
    run.module.train()
    with pytest.raises(ValueError, match="inside"), evaluation_mode(run, Phase.TEST):
        raise ValueError("inside")
    assert run.module.training
    assert torch.is_grad_enabled()
    assert run.phase is Phase.TRAIN


@pytest.mark.parametrize("inference_mode", [True, False])
def test_inference_mode_is_for_runs_that_want_it(run, inference_mode):
    run.inference_mode = inference_mode
    with evaluation_mode(run, Phase.VALIDATE):
        assert torch.is_inference_mode_enabled() is inference_mode


@pytest.mark.parametrize(("phase", "name"), PHASES)
def test_a_module_may_choose_its_modes_itself(run, phase, name):
    called = []
    module = run.module.train()
    setattr(module, f"on_{name}_model_eval", lambda: called.append(("eval", torch.is_grad_enabled())))
    setattr(module, f"on_{name}_model_train", lambda: called.append(("train", torch.is_grad_enabled())))
    with evaluation_mode(run, phase):
        assert module.training, "its own method takes the place of eval()"
        module.eval()
    assert called == [("eval", False), ("train", True)]
    assert module.training


def test_what_is_called_to_train_again_finds_the_modes_put_back(run):
    seen = []
    module = run.module.train()
    module.on_test_model_train = lambda: seen.append(module.training)
    with evaluation_mode(run, Phase.TEST):
        pass
    assert seen == [True]


def test_other_phases_have_methods_of_their_own(run):
    run.module.on_test_model_eval = run.module.on_predict_model_eval = lambda: pytest.fail("of another phase")
    with evaluation_mode(run, Phase.VALIDATE):
        assert not run.module.training


def test_there_is_no_call_to_train_again_after_an_exception(run):
    run.module.on_validation_model_train = lambda: pytest.fail("the evaluation has not ended")
    with pytest.raises(ValueError, match="inside"), evaluation_mode(run, Phase.VALIDATE):
        raise ValueError("inside")
