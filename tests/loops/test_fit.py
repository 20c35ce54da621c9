"""A fit is the loop one would write by hand: the same weights, bit for bit, the same counters, a few frames away."""

from __future__ import annotations

import copy
import inspect
import math
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import trainkit
from trainkit.testing import Recorder, TinyData, TinyModule, assert_same_weights, quiet_trainer

EPOCHS = 3


class Realistic(trainkit.TrainModule):
    """BatchNorm, Dropout, an optimizer with state, and a scheduler."""

    def __init__(self, optimizer="sgd", interval=None):
        super().__init__()
        self.optimizer = optimizer
        self.interval = interval
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            self.net = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Dropout(0.3), nn.Linear(8, 2))

    def loss(self, batch):
        x, y = batch
        return nn.functional.mse_loss(self.net(x), y)

    def training_step(self, batch, batch_idx):
        return self.loss(batch)

    def validation_step(self, batch, batch_idx):
        self.log("val/loss", self.loss(batch))

    def parts(self):
        """The optimizer, and the scheduler if there is one."""
        if self.optimizer == "sgd":
            optimizer = torch.optim.SGD(self.parameters(), lr=0.05, momentum=0.9, weight_decay=1e-4)
        else:
            optimizer = torch.optim.AdamW(self.parameters(), lr=0.01)
        if self.interval == "step":
            return optimizer, torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=0.1, total_steps=100)
        if self.interval == "epoch":
            return optimizer, torch.optim.lr_scheduler.StepLR(optimizer, step_size=1, gamma=0.7)
        return optimizer, None

    def configure_optimizers(self):
        optimizer, scheduler = self.parts()
        if scheduler is None:
            return optimizer
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": self.interval}}


def train_by_hand(module, loader, *, accumulate=1, clip=None, epochs=EPOCHS, autocast=False):
    """The loop a user would have written."""
    optimizer, scheduler = module.parts()
    num_batches = len(loader)
    module.train()
    for _ in range(epochs):
        for batch_idx, batch in enumerate(loader):
            first = batch_idx - batch_idx % accumulate
            group = min(accumulate, num_batches - first)
            if batch_idx == first:
                optimizer.zero_grad()
            with torch.autocast("cpu", dtype=torch.bfloat16, enabled=autocast):
                loss = module.loss(batch)
            (loss / group).backward()
            if batch_idx + 1 < first + group:
                continue
            if clip == "norm":
                nn.utils.clip_grad_norm_(module.parameters(), 0.1)
            elif clip == "value":
                nn.utils.clip_grad_value_(module.parameters(), 0.01)
            optimizer.step()
            if module.interval == "step":
                scheduler.step()
        if module.interval == "epoch":
            scheduler.step()
    return module


RAGGED = TinyData(num_batches=10, batch_size=4, last_batch_size=2)


def shuffled():
    """A loader whose order comes from the global random state; 10 batches, the last smaller."""
    x, y = (torch.cat(parts) for parts in zip(*RAGGED, strict=True))
    return DataLoader(TensorDataset(x, y), batch_size=4, shuffle=True)


@pytest.mark.parametrize("interval", [None, "step", "epoch"])
@pytest.mark.parametrize("clip", [None, "norm", "value"])
@pytest.mark.parametrize("accumulate", [1, 3])
@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_fit_equals_the_loop_written_by_hand(optimizer, accumulate, clip, interval):
    module = Realistic(optimizer, interval)
    by_hand = copy.deepcopy(module)
    torch.manual_seed(3)
    train_by_hand(by_hand, shuffled(), accumulate=accumulate, clip=clip)

    torch.manual_seed(3)
    trainer = quiet_trainer(
        max_epochs=EPOCHS,
        accumulate_grad_batches=accumulate,
        gradient_clip_val={None: None, "norm": 0.1, "value": 0.01}[clip],
        gradient_clip_algorithm=clip,
    )
    trainer.fit(module, shuffled())
    assert_same_weights(module, by_hand)
    assert trainer.global_step == EPOCHS * math.ceil(10 / accumulate)


def test_sanity_check_validation_and_plugins_change_no_weight(tmp_path):
    module = Realistic("adamw", "step")
    by_hand = copy.deepcopy(module)
    torch.manual_seed(3)
    train_by_hand(by_hand, shuffled(), accumulate=3)

    torch.manual_seed(3)
    trainer = trainkit.Trainer(
        accelerator="cpu",
        max_epochs=EPOCHS,
        accumulate_grad_batches=3,
        default_root_dir=tmp_path,
        num_sanity_val_steps=2,
        val_check_interval=4,
        log_every_n_steps=1,
        callbacks=[Recorder()],
    )
    trainer.fit(module, shuffled(), TinyData(num_batches=3, seed=1))
    assert_same_weights(module, by_hand)


@pytest.mark.parametrize("accumulate", [1, 3])
def test_bf16_mixed_equals_autocast_by_hand(accumulate):
    module = Realistic("adamw")
    by_hand = copy.deepcopy(module)
    torch.manual_seed(3)
    train_by_hand(by_hand, RAGGED, accumulate=accumulate, autocast=True)
    torch.manual_seed(3)
    quiet_trainer(max_epochs=EPOCHS, accumulate_grad_batches=accumulate, precision="bf16-mixed").fit(module, RAGGED)
    assert_same_weights(module, by_hand)


class Quadratic(TinyModule):
    """Trained by LBFGS, which evaluates the loss several times per update."""

    def configure_optimizers(self):
        return torch.optim.LBFGS(self.parameters(), lr=0.5, max_iter=4)


def test_lbfgs_equals_the_loop_written_by_hand_with_a_closure():
    module, data = Quadratic(), TinyData(num_batches=4)
    by_hand = copy.deepcopy(module)
    optimizer = by_hand.configure_optimizers()
    for _ in range(2):
        for batch in data:

            def closure(batch=batch):
                optimizer.zero_grad()
                loss = by_hand.loss(batch)
                loss.backward()
                return loss

            optimizer.step(closure)
    trainer = quiet_trainer(max_epochs=2)
    trainer.fit(module, data)
    assert_same_weights(module, by_hand)
    assert trainer.global_step == 8


def test_overridden_optimizer_step_trains_the_same():
    class Overrides(TinyModule):
        def optimizer_step(self, epoch, batch_idx, optimizer, optimizer_closure=None):
            optimizer.step(closure=optimizer_closure)

    plain, overriding, data = TinyModule(), Overrides(), TinyData(num_batches=5, last_batch_size=1)
    quiet_trainer(max_epochs=2, accumulate_grad_batches=2).fit(plain, data)
    trainer = quiet_trainer(max_epochs=2, accumulate_grad_batches=2)
    trainer.fit(overriding, data)
    assert trainer.global_step == 6
    assert_same_weights(overriding, plain)


def test_overridden_backward_and_zero_grad_are_called():
    called = []

    class Overrides(TinyModule):
        def backward(self, loss):
            called.append("backward")
            loss.backward()

        def optimizer_zero_grad(self, epoch, batch_idx, optimizer):
            called.append("zero_grad")
            optimizer.zero_grad()

    plain, overriding, data = TinyModule(), Overrides(), TinyData(num_batches=2)
    quiet_trainer().fit(plain, data)
    quiet_trainer().fit(overriding, data)
    assert called == ["zero_grad", "backward"] * 2
    assert_same_weights(overriding, plain)


def test_at_most_six_frames_of_trainkit_lie_between_fit_and_the_training_step():
    package = str(Path(trainkit.__file__).parent)
    stacks = []

    class Module(TinyModule):
        def training_step(self, batch, batch_idx):
            frame = inspect.currentframe().f_back
            stack = []
            while frame.f_code is not trainkit.Trainer.fit.__code__:
                stack.append(frame.f_code)
                frame = frame.f_back
            stacks.append(stack)
            return self.loss(batch)

    quiet_trainer(callbacks=[Recorder(only=["on_train_batch_end"])]).fit(Module(), TinyData(num_batches=2))
    assert len(stacks) == 2
    for stack in stacks:
        names = [code.co_qualname for code in stack]
        assert all(code.co_filename.startswith(package) for code in stack), names
        assert len(stack) <= 6, names


@given(
    num_batches=st.integers(1, 7),
    accumulate=st.integers(1, 4),
    epochs=st.integers(1, 3),
    max_steps=st.integers(1, 12) | st.just(-1),
)
@settings(max_examples=40, deadline=None)
@pytest.mark.filterwarnings("ignore:accumulate_grad_batches=. is more than")
def test_counters_for_all_lengths_groups_and_limits(num_batches, accumulate, epochs, max_steps):
    recorder = Recorder(
        only=["on_train_batch_end", "on_after_optimizer_step", "on_train_epoch_end"],
        look=lambda trainer, module: trainer.global_step,
    )
    trainer = quiet_trainer(
        max_epochs=epochs, max_steps=max_steps, accumulate_grad_batches=accumulate, callbacks=[recorder]
    )
    trainer.fit(TinyModule(), TinyData(num_batches))

    updates, batches, finished_epochs, begun_epochs = 0, 0, 0, 0
    while finished_epochs < epochs and updates != max_steps:
        begun_epochs += 1
        for batch in range(1, num_batches + 1):
            batches += 1
            updates += batch % accumulate == 0 or batch == num_batches
            if updates == max_steps:
                break
        finished_epochs += batch == num_batches
    assert trainer.global_step == updates
    assert trainer.progress.total_batches == recorder.count("on_train_batch_end") == batches
    assert recorder.seen("on_after_optimizer_step") == list(range(1, updates + 1))
    assert recorder.count("on_train_epoch_end") == begun_epochs
    assert trainer.current_epoch == finished_epochs


@given(sizes=st.lists(st.integers(1, 9), min_size=1, max_size=6))
@settings(max_examples=25, deadline=None)
def test_epoch_mean_is_the_mean_over_all_samples_however_they_are_cut(sizes):
    class Module(TinyModule):
        def training_step(self, batch, batch_idx):
            self.log("mean", batch.mean(), on_step=False, on_epoch=True)
            return self.layer.weight.sum()

        def validation_step(self, batch, batch_idx):
            self.log("val/mean", batch.mean())

    samples = torch.arange(sum(sizes), dtype=torch.float32) ** 2
    batches = list(samples.split(sizes))
    trainer = quiet_trainer()
    trainer.fit(Module(), batches, batches)
    for name in ("mean", "val/mean"):
        assert trainer.callback_metrics[name].item() == pytest.approx(samples.mean().item(), rel=1e-6)
