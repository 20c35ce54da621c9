from __future__ import annotations

import pytest
import torch

from tests.strategies.regression import Regression, make_batch
from trainkit.strategies import SingleDevice


def test_the_step_is_the_modules_own_without_a_frame_between():
    module = Regression()
    assert SingleDevice("cpu").training_step(module) == module.training_step


def test_a_device_may_be_given_as_text():
    strategy = SingleDevice("cuda:1")
    assert strategy.device == torch.device("cuda", 1)
    assert strategy.devices == (strategy.device,)


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_module_trains_on_the_gpu():
    strategy, module = SingleDevice("cuda:0"), Regression()
    strategy.setup()
    strategy.wrap(module)
    x, y = (tensor.to(strategy.device) for tensor in make_batch(5))
    strategy.training_step(module)((x, y), 0).backward()
    assert {parameter.grad.device for parameter in module.parameters()} == {torch.device("cuda", 0)}
    assert torch.cuda.current_device() == 0
