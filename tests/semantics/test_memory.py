"""Nothing that is kept grows with the number of steps."""

from __future__ import annotations

import gc
import sys
from typing import Any

import pytest
import torch
from torch import Tensor

import trainkit as tk
from trainkit.callbacks import EarlyStopping, LearningRateMonitor, ModelCheckpoint
from trainkit.testing import TinyData, TinyModule

FEW, MANY = 1200, 3600  # by the first look, free lists are full and caches warm


class Talkative(TinyModule):
    """Logs in every way there is."""

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        loss = self.loss(batch)
        self.log("loss", loss, prog_bar=True)
        self.log("both", loss, on_step=True, on_epoch=True)
        self.log("largest", loss, on_step=False, on_epoch=True, reduce_fx="max")
        self.log("number", float(batch_idx), on_epoch=True)
        return {"loss": loss, "more": loss * 2}

    def on_train_batch_end(self, outputs: Any, batch_idx: int) -> None:
        self.log("from_a_hook", outputs["more"])


class Scale(tk.Callback):
    """Counts what is alive after some steps, and after many more."""

    def __init__(self) -> None:
        self.blocks: list[int] = []
        self.tensors: list[int] = []

    def on_train_batch_end(self, batch_idx: int) -> None:
        if batch_idx in (FEW, MANY):
            gc.collect()
            self.blocks.append(sys.getallocatedblocks())
            self.tensors.append(sum(issubclass(type(each), Tensor) for each in gc.get_objects()))


@pytest.mark.slow
def test_memory_stays_flat_while_everything_is_logged(tmp_path, capsys):
    scale = Scale()
    batch = TinyData(1)[0]
    trainer = tk.Trainer(
        accelerator="cpu",
        max_epochs=1,
        log_every_n_steps=5,
        default_root_dir=tmp_path,
        enable_model_summary=False,
        val_check_interval=300,
        num_sanity_val_steps=0,
        callbacks=[scale, ModelCheckpoint(), LearningRateMonitor("step"), EarlyStopping("val/loss", patience=10**6)],
    )
    trainer.fit(Talkative(), [batch] * (MANY + 2), [batch] * 2)

    assert scale.tensors[0] == scale.tensors[1]
    # Whatever is kept of a step, be it a number, is a block of memory.
    assert scale.blocks[1] - scale.blocks[0] < (MANY - FEW) / 4
    assert torch.isfinite(trainer.callback_metrics["loss"])
