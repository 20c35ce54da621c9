"""A sharded fit on however many ranks there are: ``python fitting.py FOLDER '{"max_steps": 4, ...}'``; see `main`.

Rank 0 writes ``FOLDER/NAME.pt``: the state with which the fit began, with which it ended, and its losses.
"""

from __future__ import annotations

import copy
import json
import os
import signal
import sys
import warnings
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from trainkit import Callback, Trainer, TrainModule
from trainkit.callbacks import ModelCheckpoint
from trainkit.errors import TrainkitError
from trainkit.module.shards import mapped, whole
from trainkit.strategies.fsdp.strategy import FSDP

GLOBAL_BATCH = 12
SAMPLES = 60


class Net(TrainModule):
    """Parameters of which a rank has an uneven part, or none; two that are tied; a buffer that training writes."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(1)
        self.blocks = nn.ModuleList([nn.Linear(4, 7), nn.Linear(7, 7), nn.Linear(7, 3)])
        self.norm = nn.BatchNorm1d(3)
        self.scale = nn.Parameter(torch.ones(1))
        self.head = nn.Linear(3, 3, bias=False)
        self.tied = nn.Linear(3, 3, bias=False)
        self.tied.weight = self.head.weight

    def forward(self, x: Tensor) -> Tensor:
        for block in self.blocks:
            x = torch.tanh(block(x))
        return self.tied(self.head(self.norm(x))) * self.scale

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        loss = (self(batch[0]) - batch[1]).square().mean()
        self.log("train/loss", loss, on_epoch=True)
        return loss

    def test_step(self, batch: Any, batch_idx: int) -> None:
        self.log("test/loss", (self(batch[0]) - batch[1]).square().mean())

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.AdamW(self.parameters(), lr=0.01)


def data() -> TensorDataset:
    chance = torch.Generator().manual_seed(5)
    return TensorDataset(torch.randn(SAMPLES, 4, generator=chance), torch.randn(SAMPLES, 3, generator=chance))


def state_of(trainer: Trainer, module: TrainModule) -> dict[str, Any]:
    """Return the weights and the state of the optimizer, whole. Every rank has to call this."""
    state = {"weights": module.state_dict(), "optimizer": trainer.optimizers[0].state_dict()}
    return copy.deepcopy(mapped(state, lambda each: whole(each.detach()).cpu()))


class Watch(Callback):
    """Keeps the state at the beginning, and each loss."""

    def __init__(self, kill_at: int = 0) -> None:
        self.kill_at = kill_at
        self.begun: Any = None
        self.losses: list[Tensor] = []

    def on_train_start(self, trainer: Trainer, module: TrainModule) -> None:
        self.begun = state_of(trainer, module)

    def on_train_batch_end(self, trainer: Trainer, outputs: Any) -> None:
        if trainer.global_step == self.kill_at:
            os.kill(os.getpid(), signal.SIGKILL)
        self.losses.append(outputs["loss"].detach().clone())


def main(
    folder: Path,
    name: str,
    *,
    save_to: str = "",
    ckpt_path: str | None = None,
    strategy: str = "fsdp",
    mesh: tuple[int, ...] | None = None,
    async_save: bool = False,
    keeps: bool = False,
    every_n_train_steps: int | None = None,
    kill_at: int = 0,
    kill_ranks: tuple[int, ...] = (0, 1),
    enable_checkpointing: bool = False,
    **arguments: Any,
) -> None:
    """Fit.

    Args:
        folder: Of the run.
        name: Of what is written.
        save_to: Where to save when the fit is over.
        ckpt_path: What to start from.
        strategy: "fsdp", or another one.
        mesh: That of FSDP.
        async_save: For the `ModelCheckpoint`.
        keeps: Whether to have a `ModelCheckpoint`.
        every_n_train_steps: For that.
        kill_at: The update after which ranks end as by ``kill -9``; 0 for none.
        kill_ranks: Which do.
        enable_checkpointing: Of the Trainer.
        arguments: Of the Trainer.
    """
    watch = Watch(kill_at if int(os.environ["RANK"]) in kill_ranks else 0)
    callbacks: list[Callback] = [watch]
    if keeps:
        callbacks.append(
            ModelCheckpoint(
                folder / "kept", every_n_train_steps=every_n_train_steps, save_last=True, async_save=async_save
            )
        )
    trainer = Trainer(
        accelerator="cpu",
        strategy=FSDP(checkpoint="sharded", mesh=mesh) if strategy == "fsdp" else strategy,
        default_root_dir=folder,
        logger=False,
        enable_checkpointing=enable_checkpointing,
        enable_progress_bar=False,
        enable_model_summary=False,
        callbacks=callbacks,
        **arguments,
    )
    module = Net()
    loader = DataLoader(data(), batch_size=GLOBAL_BATCH // trainer.world_size, shuffle=True)
    trainer.fit(module, loader, ckpt_path=ckpt_path)
    if save_to:
        trainer.save_checkpoint(folder / save_to)
    ended = state_of(trainer, module)
    if trainer.is_global_zero:
        torch.save({"begun": watch.begun, "ended": ended, "losses": watch.losses}, folder / f"{name}.pt")


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    try:
        main(Path(sys.argv[1]), **json.loads(sys.argv[2]))
    except TrainkitError as error:
        print(f"{type(error).__name__}: {error}")
        sys.exit(3)
