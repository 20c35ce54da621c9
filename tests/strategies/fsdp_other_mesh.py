"""A fit that saves in an open accumulation group, and goes on on another mesh: ``FOLDER DP TP [CHECKPOINT]``.

On each rank; without torchrun's variables in one process.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import torch
from torch.distributed.tensor.parallel import ColwiseParallel, RowwiseParallel, parallelize_module
from torch.utils.data import DataLoader, TensorDataset

import trainkit as tk
from tests.strategies.fsdp_tensor_parallel import Wide
from trainkit.strategies import FSDP
from trainkit.testing import quiet_trainer


class Saving(tk.TrainModule):
    def __init__(self, folder: Path, saves: bool) -> None:
        super().__init__()
        torch.manual_seed(5)  # tensor parallel layers are made by each rank
        self.block = Wide(7)
        self.folder, self.saves = folder, saves
        self.is_parallel = False

    def configure_model(self) -> None:
        mesh = getattr(self.trainer.strategy, "device_mesh", None)
        if mesh is None or self.is_parallel or mesh["tp"].size() == 1:
            return
        self.is_parallel = True
        parallelize_module(self.block, mesh["tp"], {"up": ColwiseParallel(), "down": RowwiseParallel()})

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        loss = (self.block(batch[0]) - 1).pow(2).mean()
        self.log("loss", loss, on_step=False, on_epoch=True)
        return loss

    def on_train_batch_start(self, batch: Any, batch_idx: int) -> None:
        # Behind the first batch of a group.
        if self.trainer.current_epoch == 0 and batch_idx == 3 and self.saves:
            self.trainer.save_checkpoint(self.folder / "open.ckpt")

    def configure_optimizers(self) -> Any:
        return torch.optim.AdamW(self.parameters(), lr=0.05)


def main(folder: Path, data: int, tensor: int, checkpoint: str | None = None) -> None:
    torch.manual_seed(1)
    strategy: Any = FSDP(mesh={"dp": data, "tp": tensor}, checkpoint="full") if "RANK" in os.environ else "auto"
    trainer = quiet_trainer(
        strategy=strategy,
        accelerator="cpu",
        precision="64-true",
        max_epochs=2,
        accumulate_grad_batches=2,
        default_root_dir=folder,
    )
    module, samples = (
        Saving(folder, saves=checkpoint is None),
        torch.linspace(-2, 3, 26 * 7, dtype=torch.float64).reshape(26, 7),
    )
    trainer.fit(module, DataLoader(TensorDataset(samples), 4, shuffle=True), ckpt_path=checkpoint)
    trainer.save_checkpoint(folder / "end.ckpt")
    if trainer.is_global_zero:
        torch.save({"loss": trainer.callback_metrics["loss"], "step": trainer.global_step}, folder / "end.pt")


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), *sys.argv[4:])
