"""A step that does not log reads from the device no more often than the loop one would write by hand."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

import trainkit as tk
from trainkit.callbacks import ModelCheckpoint
from trainkit.testing import TinyData, TinyModule, quiet_trainer

needs_cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")


@dataclass(frozen=True)
class Setting:
    """Something that one does by hand, too."""

    optimizer: str = "SGD"
    accumulate: int = 1
    max_norm: float | None = None
    autocast: bool = False
    scaled: bool = False
    scheduled: bool = False
    callbacks: int = 0
    everything_on: bool = False

    def configure(self, module: torch.nn.Module) -> torch.optim.Optimizer:
        optimizer: torch.optim.Optimizer = getattr(torch.optim, self.optimizer)(module.parameters(), lr=0.01)
        return optimizer


SETTINGS = {
    "nothing enabled": Setting(),
    "AdamW": Setting(optimizer="AdamW"),
    "clipping": Setting(max_norm=0.5),
    "accumulation": Setting(accumulate=3),
    "callbacks": Setting(callbacks=5),
    "scheduler": Setting(scheduled=True),
    "autocast": Setting(autocast=True),
    "loss scaling": Setting(scaled=True),
    "bar, logger and checkpoints": Setting(everything_on=True),
    "all together": Setting("AdamW", 2, 0.5, autocast=True, scheduled=True, callbacks=3, everything_on=True),
}
settings = pytest.mark.parametrize("setting", SETTINGS.values(), ids=SETTINGS)


class Reads(TorchDispatchMode):
    """Counts how often a tensor is read."""

    count = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.count += func is torch.ops.aten._local_scalar_dense.default
        return func(*args, **(kwargs or {}))


class Silent(TinyModule):
    """Logs nothing."""

    setting: Setting

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        return self.loss(batch)

    def configure_optimizers(self) -> Any:
        optimizer = self.setting.configure(self)
        if not self.setting.scheduled:
            return optimizer
        scheduler = torch.optim.lr_scheduler.StepLR(optimizer, step_size=2)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}


class Idle(tk.Callback):
    """Joins the hooks of a step."""

    def __init__(self, number: int) -> None:
        self.name = f"idle_{number}"

    def on_train_batch_start(self, batch: Any, batch_idx: int) -> None: ...

    def on_before_optimizer_step(self, optimizer: Any) -> None: ...

    def on_train_batch_end(self, outputs: Any, batch: Any, batch_idx: int) -> None: ...


def by_hand(setting: Setting, batches: list[Any], device: str = "cpu") -> None:
    module = TinyModule().to(device)
    optimizer = setting.configure(module)
    scheduler = torch.optim.lr_scheduler.StepLR(optimizer, step_size=2) if setting.scheduled else None
    scaler = torch.amp.GradScaler(device, enabled=setting.scaled)
    for batch_idx, batch in enumerate(batches):
        dtype = torch.float16 if setting.scaled else torch.bfloat16
        with torch.autocast(device, dtype, enabled=setting.autocast or setting.scaled):
            loss = module.loss(batch)
        scaler.scale(loss / setting.accumulate).backward()
        if (batch_idx + 1) % setting.accumulate:
            continue
        if setting.max_norm is not None:
            scaler.unscale_(optimizer)
            torch.nn.utils.clip_grad_norm_(module.parameters(), setting.max_norm)
        scaler.step(optimizer)
        scaler.update()
        optimizer.zero_grad()
        if scheduler is not None:
            scheduler.step()


def with_trainkit(setting: Setting, batches: list[Any], folder: Any, *more: tk.Callback, device: str = "cpu") -> None:
    callbacks: list[Any] = [*(Idle(number) for number in range(setting.callbacks)), *more]
    on: dict[str, Any] = {}
    if setting.everything_on:
        callbacks.append(ModelCheckpoint(every_n_epochs=1))
        on = {"logger": True, "enable_checkpointing": True, "enable_progress_bar": True}
    trainer = quiet_trainer(
        **on,
        accelerator=device,
        default_root_dir=folder,
        accumulate_grad_batches=setting.accumulate,
        gradient_clip_val=setting.max_norm,
        precision="16-mixed" if setting.scaled else "bf16-mixed" if setting.autocast else "32-true",
        callbacks=callbacks,
    )
    module = Silent()
    module.setting = setting
    trainer.fit(module, batches)


def reads_of_steps(train: Any, few: int = 6, many: int = 18) -> int:
    """Return how often ``many - few`` steps read: what a whole run reads once is left out."""
    counts = []
    for num_batches in (few, many):
        with Reads() as reads:
            train(TinyData(num_batches))
        counts.append(reads.count)
    return counts[1] - counts[0]


@settings
def test_a_step_reads_no_more_than_by_hand(setting, tmp_path, capsys):
    ours = reads_of_steps(lambda batches: with_trainkit(setting, batches, tmp_path))
    assert ours <= reads_of_steps(lambda batches: by_hand(setting, batches))


def test_reads_are_counted():
    assert reads_of_steps(lambda batches: [batch[0].sum().item() for batch in batches], few=1, many=4) == 3
    # AdamW reads its own step counts, so it is no matter of course that ours read nothing.
    assert reads_of_steps(lambda batches: by_hand(SETTINGS["AdamW"], batches)) > 0


class RefuseToWait(tk.Callback):
    """Has CUDA raise an error wherever the host waits for it, but in the first steps and the last."""

    def on_train_batch_start(self, batch_idx: int) -> None:
        if batch_idx == 3:
            torch.cuda.set_sync_debug_mode("error")

    def on_train_batch_end(self, trainer: tk.Trainer, batch_idx: int) -> None:
        if batch_idx == trainer.num_training_batches - 2:
            torch.cuda.set_sync_debug_mode("default")


@needs_cuda
@pytest.mark.cuda
@settings
def test_a_step_never_waits_for_a_gpu(setting, tmp_path, capsys):
    if setting.scaled:
        pytest.skip("GradScaler itself waits: it asks whether a gradient overflowed")
    batches = [(x.cuda(), y.cuda()) for x, y in TinyData(12)]
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that the debug mode is a prototype
            with_trainkit(setting, batches, tmp_path, RefuseToWait(), device="cuda")
    finally:
        torch.cuda.set_sync_debug_mode("default")
