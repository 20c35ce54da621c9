"""A compiled step is the eager step: the same weights, gradients, metrics and hooks, and an exact resume."""

from __future__ import annotations

import gc
import shutil
import weakref
from collections import Counter
from functools import partial

import pytest
import torch
from torch import nn

import trainkit
from trainkit.errors import CompileError
from trainkit.hooks.specs import HOOKS
from trainkit.loops.compiled import step as compiled_step
from trainkit.testing import Recorder, TinyData, TinyModule, assert_same_weights, quiet_trainer
from trainkit.trainer.compilation import WITHIN

slow = partial(pytest.param, marks=pytest.mark.slow)
HAS_CPP_COMPILER = any(shutil.which(name) for name in ("g++", "clang++"))


class Realistic(trainkit.TrainModule):
    """Dropout, BatchNorm, an optimizer with state, a scheduler that cycles momentum, and metrics."""

    def __init__(self, optimizer="sgd", batch_norm=True):
        super().__init__()
        self.optimizer = optimizer
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            norm = nn.BatchNorm1d(8, affine=False) if batch_norm else nn.Identity()
            self.net = nn.Sequential(nn.Linear(4, 8, bias=False), norm, nn.ReLU(), nn.Dropout(0.3), nn.Linear(8, 2))
            self.unused = nn.Linear(2, 2)

    def training_step(self, batch, batch_idx):
        x, y = batch
        error = self.net(x) - y
        loss = error.square().mean()
        self.log("train/loss", loss, on_step=True, on_epoch=True, prog_bar=True)
        self.log_dict({"train/error": error.abs().mean(), "train/batches": 1.0}, on_epoch=True, reduce_fx="sum")
        return {"loss": loss, "error": error}

    def configure_optimizers(self):
        if self.optimizer == "sgd":
            optimizer = torch.optim.SGD(self.parameters(), lr=0.05, momentum=0.9, weight_decay=1e-4, nesterov=True)
        elif self.optimizer == "plain":
            optimizer = torch.optim.SGD(self.parameters(), lr=0.05)
        else:
            optimizer = torch.optim.AdamW(self.parameters(), lr=0.01)
        scheduler = (
            torch.optim.lr_scheduler.StepLR(optimizer, step_size=2, gamma=0.5)
            if self.optimizer == "plain"
            else torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=0.1, total_steps=24)
        )
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}


DATA = TinyData(num_batches=6, batch_size=4)
RAGGED = TinyData(num_batches=7, batch_size=4, last_batch_size=3)


def train(module, data=DATA, *, seed=3, ckpt_path=None, **arguments):
    torch.manual_seed(seed)
    trainer = quiet_trainer(**({"max_epochs": 2} | arguments))
    trainer.fit(module, data, ckpt_path=ckpt_path)
    return trainer


def assert_close(ours, theirs, tolerance=1e-5):
    for name, value in ours.state_dict().items():
        torch.testing.assert_close(value, theirs.state_dict()[name], rtol=tolerance, atol=tolerance, msg=name)
    for (name, mine), (_, other) in zip(ours.named_parameters(), theirs.named_parameters(), strict=True):
        assert (mine.grad is None) == (other.grad is None), name
        if mine.grad is not None:
            torch.testing.assert_close(mine.grad, other.grad, rtol=tolerance, atol=tolerance, msg=name)


def assert_compiled_equals_eager(make, data=DATA, *, tolerance=1e-5, **arguments):
    eager, compiled = make(), make()
    expected = train(eager, data, **arguments)
    found = train(compiled, data, compile="step", **arguments)

    assert_close(compiled, eager, tolerance)
    assert found.global_step == expected.global_step
    assert found.callback_metrics.keys() == expected.callback_metrics.keys()
    for name, value in expected.callback_metrics.items():
        torch.testing.assert_close(found.callback_metrics[name], value, rtol=tolerance, atol=tolerance, msg=name)
    return found


@pytest.mark.parametrize(
    "arguments", [{}, slow({"gradient_clip_val": 0.1}), slow({"accumulate_grad_batches": 3})], ids=str
)
@pytest.mark.parametrize("optimizer", ["sgd", "adamw", "plain"])
def test_compiled_equals_eager(optimizer, arguments):
    assert_compiled_equals_eager(lambda: Realistic(optimizer), **arguments)


@pytest.mark.slow
@pytest.mark.usefixtures("machine_code")
@pytest.mark.skipif(not HAS_CPP_COMPILER, reason="no C++ compiler")
@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_machine_code_equals_eager(optimizer):
    assert_compiled_equals_eager(lambda: Realistic(optimizer), gradient_clip_val=0.1)


def test_random_numbers_go_on_as_after_eager_steps():
    train(Realistic())
    expected = torch.rand(())
    train(Realistic(), compile="step")
    assert torch.rand(()) == expected


def test_each_shape_has_its_graph():
    assert_compiled_equals_eager(Realistic, RAGGED)


@pytest.mark.slow
def test_short_last_group_is_weighed_as_eager():
    assert_compiled_equals_eager(Realistic, RAGGED, accumulate_grad_batches=3, gradient_clip_val=0.1)


@pytest.mark.slow
def test_group_that_closes_unforeseen_is_rescaled():
    assert_compiled_equals_eager(lambda: Realistic("adamw"), WithoutLength(RAGGED), accumulate_grad_batches=3)


class WithoutLength:
    """A loader that does not know its length."""

    def __init__(self, batches):
        self.batches = batches

    def __iter__(self):
        return iter(self.batches)


class OwnClipping(TinyModule):
    def configure_gradient_clipping(self, optimizer, gradient_clip_val=None, gradient_clip_algorithm=None):
        self.clip_gradients(optimizer, 0.01, "value")


class BatchAlone(TinyModule):
    def training_step(self, batch):
        return super().training_step(batch, 0)


@pytest.mark.parametrize("make", [OwnClipping, BatchAlone])
def test_what_a_module_does_its_own_way_is_in_the_graph(make):
    assert_compiled_equals_eager(make)


class Weighted(TinyModule):
    def training_step(self, batch, batch_idx):
        x, y = batch
        return {"loss": nn.functional.mse_loss(self(x), y, reduction="sum"), "weight": len(x)}


@pytest.mark.parametrize("accumulate", [1, 3])
def test_weights_of_samples_count(accumulate):
    assert_compiled_equals_eager(Weighted, RAGGED, accumulate_grad_batches=accumulate)


class Skipping(TinyModule):
    def training_step(self, batch, batch_idx):
        return None if batch_idx % 3 == 2 else super().training_step(batch, batch_idx)


@pytest.mark.parametrize("accumulate", [1, 3])
def test_skipped_batches_change_nothing(accumulate):
    found = assert_compiled_equals_eager(Skipping, accumulate_grad_batches=accumulate)
    assert found.global_step == (8 if accumulate == 1 else 4)


class Counting(TinyModule):
    """Looks at counters, which differ at every step and are inputs of one graph all the same."""

    def training_step(self, batch, batch_idx):
        loss = super().training_step(batch, batch_idx)
        self.log("warmup", (self.global_step + 1) / 100)
        if batch_idx % 5 == 0:
            self.log("fifth", loss)
        return loss * (self.global_step + 1) / 100


def test_counters_do_not_compile_anew():
    compilations = compilations_of(lambda: assert_compiled_equals_eager(Counting))
    assert compilations == 2  # with and without the value of every fifth batch


def compilations_of(action):
    from torch._dynamo.utils import counters

    before = counters["stats"]["unique_graphs"]
    action()
    return counters["stats"]["unique_graphs"] - before


def test_schedulers_do_not_compile_anew():
    assert compilations_of(lambda: train(Realistic("adamw"), compile="step", max_epochs=3)) == 1


def test_torchmetrics_objects_are_updated_within_the_graph():
    from torchmetrics.regression import MeanSquaredError

    class Measured(TinyModule):
        def __init__(self):
            super().__init__()
            self.mse = MeanSquaredError()

        def training_step(self, batch, batch_idx):
            x, y = batch
            prediction = self(x)
            self.mse(prediction.detach(), y)
            self.log("mse", self.mse, on_epoch=True)
            return nn.functional.mse_loss(prediction, y)

    assert_compiled_equals_eager(Measured)


@pytest.mark.parametrize("precision", ["bf16-mixed", "bf16-true", "64-true"])
def test_precisions(precision):
    tolerance = 1e-10 if precision == "64-true" else 0.05
    eager, compiled = Realistic("plain", batch_norm=False), Realistic("plain", batch_norm=False)
    train(eager, precision=precision)
    train(compiled, precision=precision, compile="step")
    assert_close(compiled, eager, tolerance)


@pytest.mark.slow
def test_frozen_layers_join_when_they_are_unfrozen():
    class Unfreezing(Realistic):
        def on_train_epoch_start(self):
            self.net[0].requires_grad_(self.current_epoch > 0)

    assert_compiled_equals_eager(Unfreezing)


@pytest.mark.parametrize("accumulate", [1, 2])
def test_hooks_around_the_graph_are_called_as_ever(accumulate):
    def gradient(trainer, module):
        return None if module.layer.weight.grad is None else module.layer.weight.grad.sum().item()

    outside = [hook for hook in HOOKS if hook not in WITHIN]
    eager, compiled = Recorder(outside, look=gradient), Recorder(outside, look=gradient)
    train(TinyModule(), callbacks=eager, accumulate_grad_batches=accumulate)
    train(TinyModule(), callbacks=compiled, accumulate_grad_batches=accumulate, compile="step")

    assert compiled.names == eager.names
    assert "on_before_zero_grad" in compiled.names
    hook = "on_train_batch_end"
    assert compiled.seen(hook) == pytest.approx(eager.seen(hook))
    for mine, other in zip(compiled.arguments(hook), eager.arguments(hook), strict=True):
        assert not mine["outputs"]["loss"].requires_grad
        torch.testing.assert_close(mine["outputs"]["loss"], other["outputs"]["loss"])


def test_graphs_end_with_their_fit():
    module = Realistic("plain")
    trainer = train(module, compile="step")
    alive = weakref.ref(module)
    del module, trainer
    gc.collect()
    assert alive() is None


# Resuming


@pytest.mark.slow
@pytest.mark.parametrize(("optimizer", "stop_after"), [("sgd", 1), ("sgd", 4), ("sgd", 8), ("plain", 9)])
def test_resuming_is_exact(tmp_path, optimizer, stop_after):
    arguments = {"compile": "step", "accumulate_grad_batches": 2}
    whole = Realistic(optimizer)
    train(whole, RAGGED, **arguments)

    path = tmp_path / "first.ckpt"
    train(Realistic(optimizer), RAGGED, callbacks=SaveAfter(stop_after, path), **arguments)
    resumed = Realistic(optimizer)
    train(resumed, RAGGED, seed=99, ckpt_path=path, **arguments)
    assert_same_weights(resumed, whole)


class SaveAfter(trainkit.Callback):
    def __init__(self, batches, path):
        self.batches = batches
        self.path = path

    def on_train_batch_end(self, trainer):
        if trainer.progress.total_batches == self.batches:
            trainer.save_checkpoint(self.path)


# What is compiled too often


@pytest.mark.slow
def test_value_that_changes_at_every_step_is_an_error():
    class Growing(TinyModule):
        factor = 1.0

        def training_step(self, batch, batch_idx):
            self.factor += 0.1
            return self.factor * super().training_step(batch, batch_idx)

    with pytest.raises(CompileError, match=r"4 times within a few steps[\s\S]*\.factor == 1\.3"):
        train(Growing(), compile="step")


@pytest.mark.slow
def test_value_that_changes_now_and_then_is_compiled_for():
    class Annealed(TinyModule):
        factor = 1.0

        def on_train_epoch_start(self):
            self.factor *= 0.5

        def training_step(self, batch, batch_idx):
            return self.factor * super().training_step(batch, batch_idx)

    assert_compiled_equals_eager(Annealed, TinyData(num_batches=30), max_epochs=6)


@pytest.mark.slow
def test_more_shapes_than_dynamo_allows_are_compiled_for():
    assert_compiled_equals_eager(TinyModule, [batch for size in range(2, 14) for batch in TinyData(1, size)])


def test_too_many_shapes_are_an_error(monkeypatch):
    monkeypatch.setattr(compiled_step, "MAX_SHAPES", 3)
    with pytest.raises(CompileError, match="this is the 4th"):
        train(TinyModule(), [batch for size in range(2, 9) for batch in TinyData(1, size)], compile="step")


def test_parameters_that_take_part_now_and_then_are_an_error():
    class Switching(TinyModule):
        def __init__(self):
            super().__init__()
            self.extra = nn.Linear(4, 2)

        def training_step(self, batch, batch_idx):
            x, y = batch
            prediction = self(x) + (self.extra(x) if batch_idx % 2 else 0)
            return nn.functional.mse_loss(prediction, y)

    with pytest.raises(CompileError, match=r"but not\s+extra\.bias, extra\.weight"):
        train(Switching(), compile="step")


def test_eager_fallback_is_an_error():
    with torch.compiler.set_stance("force_eager"), pytest.raises(CompileError, match="set_stance"):
        train(TinyModule(), compile="step")


def test_gradients_that_a_plugin_clears_are_made_again():
    class Clearing(TinyModule):
        def on_train_batch_end(self, trainer):
            trainer.optimizers[0].zero_grad()

    data = TinyData(num_batches=12)
    assert compilations_of(lambda: assert_compiled_equals_eager(Clearing, data)) == 1


@pytest.mark.cuda
@pytest.mark.usefixtures("machine_code")
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("optimizer", ["sgd", "adamw", "plain"])
def test_cuda_graphs_equal_eager(optimizer):
    from torch._dynamo.utils import counters

    def make():
        return Realistic(optimizer, batch_norm=False).cuda()

    assert Counter(counters["inductor"])["cudagraph_skips"] == 0
    eager, compiled = make(), make()
    train(eager, accelerator="cuda", devices=1)
    train(compiled, accelerator="cuda", devices=1, compile="step")
    assert_close(compiled, eager, 1e-3)
    assert Counter(counters["inductor"])["cudagraph_skips"] == 0
