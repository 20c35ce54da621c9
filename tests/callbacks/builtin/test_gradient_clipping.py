from __future__ import annotations

from typing import Any

import pytest
import torch

from trainkit.callbacks import GradientClipping
from trainkit.errors import ConfigError, UnknownNameError
from trainkit.testing import Recorder, TinyData, TinyModule, quiet_trainer


def gradients(module: TinyModule) -> torch.Tensor:
    return torch.cat([parameter.grad.flatten() for parameter in module.parameters() if parameter.grad is not None])


def gradient_at_update(callback: GradientClipping) -> torch.Tensor:
    recorder = Recorder(["on_after_optimizer_step"], look=lambda trainer, module: gradients(module))
    quiet_trainer(callbacks=[callback, recorder], max_steps=1).fit(TinyModule(), TinyData(1))
    gradient: torch.Tensor = recorder.seen("on_after_optimizer_step")[0]
    return gradient


def test_norm_bounds_all_gradients_together() -> None:
    unclipped, clipped = gradient_at_update(GradientClipping()), gradient_at_update(GradientClipping(0.5))
    torch.testing.assert_close(clipped, unclipped * (0.5 / unclipped.norm()), rtol=1e-4, atol=0)


def test_value_bounds_each_gradient() -> None:
    unclipped = gradient_at_update(GradientClipping())
    assert torch.equal(gradient_at_update(GradientClipping(0.1, "value")), unclipped.clamp(-0.1, 0.1))
    assert unclipped.abs().max() > 0.1


def test_other_plugins_see_gradients_before_they_are_clipped() -> None:
    recorder = Recorder(["on_before_optimizer_step"], look=lambda trainer, module: gradients(module), stage="persist")
    quiet_trainer(callbacks=[GradientClipping(0.1, "value"), recorder], max_steps=1).fit(TinyModule(), TinyData(1))
    assert torch.equal(recorder.seen("on_before_optimizer_step")[0], gradient_at_update(GradientClipping()))


def test_a_module_may_clip_in_its_own_way() -> None:
    class Own(TinyModule):
        def configure_gradient_clipping(self, optimizer: Any, gradient_clip_val: Any = None, **rest: Any) -> None:
            calls.append((type(optimizer).__name__, gradient_clip_val, rest))

    calls: list[Any] = []
    quiet_trainer(gradient_clip_val=0.5, gradient_clip_algorithm="value").fit(Own(), TinyData(2))
    assert calls == [("SGD", 0.5, {"gradient_clip_algorithm": "value"})] * 2


@pytest.mark.parametrize("value", [-1, float("nan"), "1.0", True])
def test_an_impossible_bound_is_refused(value: Any) -> None:
    with pytest.raises(ConfigError, match="gradient_clip_val=.* must be a number of at least 0"):
        GradientClipping(value)


def test_an_unknown_algorithm_is_refused() -> None:
    with pytest.raises(UnknownNameError, match="did you mean 'value'"):
        GradientClipping(1.0, "valeu")
