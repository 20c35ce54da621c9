"""When gradients are clipped, and to what."""

from __future__ import annotations

import math

import pytest
import torch

from trainkit.testing import Recorder, TinyData, TinyModule, assert_same_weights, quiet_trainer


def gradient_norm(trainer, module):
    return torch.linalg.vector_norm(torch.cat([p.grad.flatten() for p in module.parameters()])).item()


def largest_gradient(trainer, module):
    return max(parameter.grad.abs().max().item() for parameter in module.parameters())


HOOKS = ["on_before_optimizer_step", "on_after_optimizer_step"]


def test_norm_is_clipped_after_on_before_optimizer_step():
    recorder = Recorder(only=HOOKS, look=gradient_norm)
    quiet_trainer(gradient_clip_val=1e-3, callbacks=[recorder]).fit(TinyModule(), TinyData(2))
    assert all(norm > 0.1 for norm in recorder.seen("on_before_optimizer_step"))
    assert recorder.seen("on_after_optimizer_step") == pytest.approx([1e-3, 1e-3], rel=1e-3)


def test_value_clips_each_gradient():
    recorder = Recorder(only=HOOKS, look=largest_gradient)
    trainer = quiet_trainer(gradient_clip_val=1e-3, gradient_clip_algorithm="value", callbacks=[recorder])
    trainer.fit(TinyModule(), TinyData(2))
    assert all(value > 0.01 for value in recorder.seen("on_before_optimizer_step"))
    assert recorder.seen("on_after_optimizer_step") == pytest.approx([1e-3, 1e-3])


def test_group_is_clipped_once_when_it_is_complete():
    recorder = Recorder(only=["on_train_batch_end"], look=gradient_norm)
    trainer = quiet_trainer(gradient_clip_val=1e-3, accumulate_grad_batches=2, callbacks=[recorder])
    trainer.fit(TinyModule(), TinyData(4))
    first, second, third, fourth = recorder.seen("on_train_batch_end")
    assert min(first, third) > 0.01
    assert (second, fourth) == pytest.approx((1e-3, 1e-3), rel=1e-3)


def test_gradients_are_unscaled_when_hooks_see_them_and_when_they_are_clipped():
    plain, scaled = Recorder(only=HOOKS, look=gradient_norm), Recorder(only=HOOKS, look=gradient_norm)
    data = TinyData(1) * 3
    quiet_trainer(callbacks=[plain]).fit(TinyModule(lr=0.0), data)
    trainer = quiet_trainer(precision="16-mixed", callbacks=[scaled], gradient_clip_val=1e-3)
    trainer.fit(TinyModule(lr=0.0), data)
    # The scaler starts too high for float16, and skips updates until it has come down.
    seen = [norm for norm in scaled.seen("on_before_optimizer_step") if math.isfinite(norm)]
    assert seen == pytest.approx(plain.seen("on_before_optimizer_step")[: len(seen)], rel=2e-2)
    assert len(seen) == trainer.global_step > 0
    assert scaled.seen("on_after_optimizer_step") == pytest.approx([1e-3] * len(seen), rel=1e-2)


def test_overridden_configure_gradient_clipping_is_called_instead():
    called = []

    class Module(TinyModule):
        def configure_gradient_clipping(self, optimizer, gradient_clip_val, gradient_clip_algorithm):
            called.append((type(optimizer).__name__, gradient_clip_val, gradient_clip_algorithm))
            self.clip_gradients(optimizer, gradient_clip_val=1e-5, gradient_clip_algorithm="value")

    recorder = Recorder(only=["on_after_optimizer_step"], look=largest_gradient)
    trainer = quiet_trainer(gradient_clip_val=0.5, gradient_clip_algorithm="norm", callbacks=[recorder])
    trainer.fit(Module(), TinyData(1))
    assert called == [("SGD", 0.5, "norm")]
    assert recorder.seen("on_after_optimizer_step") == pytest.approx([1e-5])


@pytest.mark.parametrize("accumulate_grad_batches", [1, 2])
def test_overridden_configure_gradient_clipping_is_called_without_a_value_too(accumulate_grad_batches):
    called = []

    class Module(TinyModule):
        def configure_gradient_clipping(self, optimizer, gradient_clip_val=None, gradient_clip_algorithm=None):
            called.append((gradient_clip_val, gradient_clip_algorithm))
            self.clip_gradients(optimizer, gradient_clip_val=1e-5, gradient_clip_algorithm="value")

    recorder = Recorder(only=["on_after_optimizer_step"], look=largest_gradient)
    trainer = quiet_trainer(accumulate_grad_batches=accumulate_grad_batches, callbacks=[recorder])
    trainer.fit(Module(), TinyData(4))
    updates = 4 // accumulate_grad_batches
    assert called == [(None, None)] * updates
    assert recorder.seen("on_after_optimizer_step") == pytest.approx([1e-5] * updates)


def test_no_clipping_without_the_argument():
    module, other, data = TinyModule(), TinyModule(), TinyData(3)
    quiet_trainer().fit(module, data)
    quiet_trainer(gradient_clip_val=1e9).fit(other, data)
    assert_same_weights(module, other, atol=1e-7)


@pytest.mark.parametrize(
    "arguments", [{"gradient_clip_val": 1.0}, {"accumulate_grad_batches": 2}], ids=["clipping", "accumulation"]
)
def test_with_manual_optimization_clipping_and_accumulation_are_errors_that_name_the_argument(arguments):
    class Manual(TinyModule):
        def __init__(self):
            super().__init__()
            self.automatic_optimization = False

    with pytest.raises(ValueError, match=rf"(?s){next(iter(arguments))}.*automatic_optimization"):
        quiet_trainer(**arguments).fit(Manual(), TinyData(2))
