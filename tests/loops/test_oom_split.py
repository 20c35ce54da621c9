from __future__ import annotations

import warnings
import weakref
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.testing import assert_close

from trainkit import Trainer
from trainkit.callbacks import GradientAccumulationScheduler
from trainkit.data import TensorLoader
from trainkit.errors import ConfigError, DataError, ModuleError, OutOfMemoryError
from trainkit.loops.oom_split import is_out_of_memory
from trainkit.testing import Recorder, TinyModule, assert_same_weights, quiet_trainer

GENERATOR = torch.Generator().manual_seed(0)
X, Y = torch.randn(40, 4, generator=GENERATOR), torch.randn(40, 2, generator=GENERATOR)


class Tight(TinyModule):
    """Runs out of memory with more than ``room`` samples, in backward or at the end of forward."""

    room: float = 5
    in_backward = False

    def __init__(self) -> None:
        super().__init__()
        self.sizes: list[int] = []
        self.gradients: list[torch.Tensor] = []

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        loss = super().training_step(batch, batch_idx)
        self.sizes.append(len(batch[0]))
        if len(batch[0]) > self.room:
            if self.in_backward:
                loss.register_hook(self.run_out)
            else:
                self.run_out()
        return loss

    def run_out(self, *_: Any) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB.")

    def on_before_optimizer_step(self) -> None:
        self.gradients.append(torch.cat([p.grad.flatten().clone() for p in self.parameters()]))


def loader(batch_size: int = 16) -> TensorLoader:
    return TensorLoader(X, Y, batch_size=batch_size)


def fit(module: Any, batches: Any = None, **arguments: Any) -> Trainer:
    trainer = quiet_trainer(**{"accumulate_grad_batches": "auto"} | arguments)
    trainer.fit(module, loader() if batches is None else batches)
    return trainer


def with_room(room: float, kind: type[Tight] = Tight) -> Any:
    torch.manual_seed(0)
    module = kind()
    module.room = room
    return module


def tried(module: Any, **arguments: Any) -> Trainer:
    """Fit a module that runs out of memory on the way, without the warnings."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="out of memory")
        return fit(module, **arguments)


# The same gradients


@pytest.mark.parametrize("in_backward", [False, True])
def test_gradients_and_weights_are_those_of_whole_batches(in_backward):
    whole, split = with_room(16), with_room(5)
    split.in_backward = in_backward
    fit(whole, accumulate_grad_batches=1)
    tried(split)
    for one, two in zip(split.gradients, whole.gradients, strict=True):
        assert_close(one, two)
    assert_same_weights(split, whole, atol=1e-6)


@pytest.mark.slow
@settings(max_examples=10, deadline=None)
@given(room=st.integers(1, 17), batch_size=st.integers(1, 17))
def test_so_they_are_for_every_size(room, batch_size):
    whole, split = with_room(17), with_room(room)
    fit(whole, batches=loader(batch_size), accumulate_grad_batches=1, limit_train_batches=2)
    trainer = tried(split, batches=loader(batch_size), limit_train_batches=2)
    assert_same_weights(split, whole, atol=1e-6)
    assert trainer.global_step == 2
    assert trainer.progress.micro_batch_size <= room


def test_sums_with_weights_give_the_same_gradients():
    class Weighted(Tight):
        def training_step(self, batch, batch_idx):
            return {"loss": super().training_step(batch, batch_idx), "weight": (batch[0][:, 0] > 0).sum()}

        def loss(self, batch):
            x, y = batch
            return (self(x) - y)[x[:, 0] > 0].square().sum()

    whole, split = with_room(16, Weighted), with_room(5, Weighted)
    fit(whole, accumulate_grad_batches=1)
    tried(split)
    assert_same_weights(split, whole, atol=1e-6)


def test_without_running_out_a_fit_is_bit_for_bit_the_usual_one():
    one, other = with_room(16), with_room(16)
    fit(one)
    fit(other, accumulate_grad_batches=1)
    assert_same_weights(one, other)


# What is tried


def test_parts_are_halved_until_they_fit_and_stay_so():
    module = with_room(5)
    with pytest.warns(UserWarning, match="out of memory") as caught:
        trainer = fit(module)
    assert module.sizes == [16, 8, 4, 4, 4, 4, 4, 4, 4, 4, 4, 4]
    messages = [str(each.message).partition(":")[0] for each in caught]
    assert messages == ["out of memory with 16 samples", "out of memory with 8 samples"]
    assert trainer.progress.micro_batch_size == 4


def test_a_single_sample_that_does_not_fit_is_an_error():
    with pytest.raises(OutOfMemoryError, match="Tight.training_step ran out of memory with a single sample"):
        tried(with_room(0))


def test_other_errors_are_raised_as_they_are():
    class Wrong(TinyModule):
        def training_step(self, batch, batch_idx):
            raise RuntimeError("mat1 and mat2 shapes cannot be multiplied")

    with pytest.raises(RuntimeError, match="mat1 and mat2"):
        fit(Wrong())


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (torch.cuda.OutOfMemoryError("CUDA out of memory."), True),
        (MemoryError(), True),
        (RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"), True),
        (RuntimeError("[enforce fail at alloc_cpu.cpp:117] DefaultCPUAllocator: can't allocate memory"), True),
        (RuntimeError("MPS backend out of memory (MPS allocated: 1 GB)"), True),
        (RuntimeError("CUDA error: device-side assert triggered"), False),
    ],
)
def test_what_tells_of_memory(error, expected):
    assert is_out_of_memory(error) is expected


TOO_MUCH = 2**55
"""Bytes that no device has, nor an address space."""


@pytest.mark.parametrize(
    "device",
    [
        "cpu",
        pytest.param(
            "cuda",
            marks=[
                pytest.mark.cuda,
                pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
            ],
        ),
    ],
)
def test_memory_that_runs_out_in_earnest_is_noticed(device):
    class Allocating(Tight):
        def run_out(self, *_):
            torch.empty(TOO_MUCH, dtype=torch.uint8, device=self.device)

    assert tried(with_room(5, Allocating), accelerator=device, devices=1).progress.micro_batch_size == 4


# What a failed try leaves: nothing


@pytest.mark.parametrize("in_backward", [False, True])
def test_what_was_computed_is_let_go_of_before_the_next_try(in_backward):
    class Watched(Tight):
        def loss(self, batch):
            alive.append(sum(each() is not None for each in hidden))
            x, y = batch
            computed = self(x).tanh()
            hidden.append(weakref.ref(computed))
            return nn.functional.mse_loss(computed, y)

    class Around:
        def around_training_step(self, batch):
            return (yield)

        def around_backward(self, loss):
            yield

    hidden: list[Any] = []
    alive: list[int] = []
    module = with_room(5, Watched)
    module.in_backward = in_backward
    tried(module, callbacks=Around())
    assert module.sizes[:3] == [16, 8, 4]
    assert set(alive) == {0}


class Marked(Tight):
    """Has everything that a step may change: buffers, metrics, random numbers."""

    def __init__(self) -> None:
        import torchmetrics

        super().__init__()
        self.dropout = nn.Dropout(0.5)
        self.mean = torchmetrics.MeanMetric()
        self.register_buffer("samples", torch.zeros(()))
        self.register_buffer("newest", torch.zeros(()))

    def training_step(self, batch, batch_idx):
        x, y = batch
        self.samples += len(x)
        self.newest = self.newest + x.sum()
        self.mean.update(x[:, 0])
        self.log("mean", self.mean, on_step=False, on_epoch=True)
        self.log("largest", x.max(), reduce_fx="max", on_step=False, on_epoch=True)
        self.log("count", len(x), reduce_fx="sum", on_step=False, on_epoch=True)
        return super().training_step((self.dropout(x), y), batch_idx)


def test_the_outcome_is_that_of_a_run_that_knew_the_size_of_the_parts():
    surprised, knowing = with_room(5, Marked), with_room(5, Marked)
    torch.manual_seed(1)
    one = tried(surprised)
    torch.manual_seed(1)
    other = quiet_trainer(accumulate_grad_batches="auto")
    other.progress.micro_batch_size = 4
    other.fit(knowing, loader())

    assert_same_weights(surprised, knowing)
    assert one.callback_metrics == other.callback_metrics


def test_logged_values_are_those_of_whole_batches():
    plain = with_room(16, Marked)
    plain.dropout.p = 0.0
    split = with_room(5, Marked)
    split.dropout.p = 0.0
    expected = fit(plain, accumulate_grad_batches=1).callback_metrics
    actual = tried(split).callback_metrics
    assert actual["count"] == 40 and actual["largest"] == X.max()
    assert_close(actual, expected)
    assert split.samples == 40


def test_outputs_of_the_parts_are_joined_for_plugins():
    class Outputs(Tight):
        def training_step(self, batch, batch_idx):
            return {"loss": super().training_step(batch, batch_idx), "x": batch[0], "n": torch.tensor(1.0)}

    class Keep:
        def on_train_batch_end(self, outputs):
            kept.append(outputs)

    kept: list[Any] = []
    tried(with_room(5, Outputs), callbacks=Keep())
    assert torch.equal(torch.cat([outputs["x"] for outputs in kept]), X)
    assert [outputs["loss"].requires_grad for outputs in kept] == [False] * 3
    kept.clear()
    fit(with_room(16, Outputs), callbacks=Keep())
    assert [outputs["x"].shape for outputs in kept] == [(16, 4), (16, 4), (8, 4)]


# Skipped


class Picky(Tight):
    """Skips what begins with a large number."""

    def training_step(self, batch, batch_idx):
        loss = super().training_step(batch, batch_idx)
        return None if batch[0][0, 0] > self.limit else loss

    limit = X[[0, 4, 8, 12], 0].median()


def test_parts_that_are_skipped_do_not_count():
    kept = [index for first in range(0, 16, 4) for index in range(first, first + 4) if X[first, 0] <= Picky.limit]
    assert 0 < len(kept) < 16
    module, by_hand = with_room(5, Picky), with_room(16)
    tried(module, limit_train_batches=1)
    fit(by_hand, batches=[(X[kept], Y[kept])], accumulate_grad_batches=1)
    assert_same_weights(module, by_hand, atol=1e-6)


@pytest.mark.filterwarnings("ignore:epoch . has made no update")
def test_a_batch_of_which_every_part_is_skipped_makes_no_update():
    module = with_room(5, Picky)
    module.limit = -1e9
    before = [parameter.clone() for parameter in module.parameters()]
    assert tried(module).global_step == 0
    assert all(map(torch.equal, module.parameters(), before))


def test_weights_for_some_parts_only_are_refused():
    class Mixed(Tight):
        def training_step(self, batch, batch_idx):
            loss = super().training_step(batch, batch_idx)
            return loss if len(self.sizes) % 2 else {"loss": loss, "weight": 1.0}

    with pytest.raises(ModuleError, match="'weight' for some parts"):
        tried(with_room(5, Mixed))


# Hooks


def test_hooks_of_the_update_are_called_once_and_those_of_backward_for_each_part():
    recorder = Recorder()
    trainer = quiet_trainer(accumulate_grad_batches="auto", callbacks=recorder)
    trainer.progress.micro_batch_size = 8
    trainer.fit(with_room(8), loader(), None)
    names = recorder.names
    batch = names[names.index("on_train_batch_start") : names.index("on_train_batch_end")]
    assert [name for name in batch if "transfer" not in name] == [
        "on_train_batch_start",
        "around_training_step",
        "end of around_training_step",
        "on_before_zero_grad",
        *("on_before_backward", "around_backward", "end of around_backward", "on_after_backward"),
        "around_training_step",
        "end of around_training_step",
        *("on_before_backward", "around_backward", "end of around_backward", "on_after_backward"),
        "on_before_optimizer_step",
        "on_clip_gradients",
        "around_optimizer_step",
        "end of around_optimizer_step",
        "on_after_optimizer_step",
    ]


# Resuming


def test_a_resumed_run_knows_the_size_and_equals_one_that_never_stopped(tmp_path):
    class Saves:
        stage = "persist"

        def on_train_batch_end(self, trainer, batch_idx):
            trainer.save_checkpoint(tmp_path / f"{batch_idx}.ckpt")

    whole = with_room(5, Marked)
    tried(whole, callbacks=Saves())
    for batch_idx in range(2):
        resumed = Marked()
        quiet_trainer(accumulate_grad_batches="auto").fit(resumed, loader(), ckpt_path=tmp_path / f"{batch_idx}.ckpt")
        assert resumed.sizes == [4] * (6 - 4 * batch_idx)
        assert_same_weights(resumed, whole)


# What cannot be


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"compile": "step"}, "within the one graph of compile='step'"),
        ({"accumulate_grad_batches": "automatic"}, "'automatic' is not usable.*'auto'"),
    ],
)
def test_arguments_that_contradict_it_are_refused_at_once(arguments, message):
    with pytest.raises(ConfigError, match=message):
        quiet_trainer(**{"accumulate_grad_batches": "auto"} | arguments)


class Manual(TinyModule):
    def __init__(self):
        super().__init__()
        self.automatic_optimization = False


class OwnStep(TinyModule):
    def optimizer_step(self, epoch, batch_idx, optimizer, optimizer_closure):
        optimizer.step(optimizer_closure)


class Newton(TinyModule):
    def configure_optimizers(self):
        return torch.optim.LBFGS(self.parameters())


@pytest.mark.parametrize(
    ("module", "message"),
    [
        (Manual, r"accumulate_grad_batches='auto'\) needs automatic optimization"),
        (OwnStep, "OwnStep has its own optimizer_step"),
        (Newton, "LBFGS evaluates the loss several times"),
    ],
)
def test_modules_that_cannot_begin_a_step_anew_are_refused(module, message):
    with pytest.raises(ConfigError, match=message):
        fit(module())


def test_a_scheduler_of_accumulation_contradicts_it():
    with pytest.raises(ConfigError, match="'auto'.* contradict each other"):
        fit(TinyModule(), callbacks=GradientAccumulationScheduler({1: 2}))


def test_a_batch_that_cannot_be_split_says_so():
    class Opaque(Tight):
        def training_step(self, batch, batch_idx):
            return super().training_step(batch[0].both, batch_idx)

    class Both:
        both = (X, Y)

    with pytest.raises(DataError, match=r"accumulate_grad_batches='auto' cannot split a batch of type tuple"):
        fit(with_room(5, Opaque), batches=[(Both(),)])
