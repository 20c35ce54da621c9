"""Fits with each argument of `DDP`, on several ranks: ``torchrun argument_ranks.py FOLDER``."""

from __future__ import annotations

import os
import sys
import warnings
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed.algorithms.ddp_comm_hooks.default_hooks import (
    allreduce_hook,
    fp16_compress_hook,
    fp16_compress_wrapper,
)
from torch.distributed.algorithms.ddp_comm_hooks.powerSGD_hook import PowerSGDState, powerSGD_hook
from torch.distributed.optim import ZeroRedundancyOptimizer
from torch.utils.checkpoint import checkpoint
from torch.utils.data import DataLoader, TensorDataset

from trainkit import TrainModule
from trainkit.compat.lightning.strategies import DDPStrategy
from trainkit.errors import TrainkitError
from trainkit.strategies import DDP
from trainkit.testing import quiet_trainer

RANK = int(os.environ.get("RANK", "0"))


class Net(TrainModule):
    """A network with statistics, which notes the gradients that hooks see.

    Args:
        keeps_zeros: Whether gradients are cleared by zeros, which keeps their memory.
        recomputes: How a part of it is computed again in backward; None for not at all.
        by_hand: Whether it optimizes by hand.
        leaves_out: Whether a layer takes part in every second batch only.
        sharded: Whether its optimizer is sharded.
    """

    def __init__(
        self,
        *,
        keeps_zeros: bool = False,
        recomputes: str | None = None,
        by_hand: bool = False,
        leaves_out: bool = False,
        sharded: bool = False,
    ) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.inner = nn.Sequential(nn.Linear(4, 6), nn.Tanh())
        self.norm, self.middle, self.outer = nn.BatchNorm1d(6), nn.Linear(6, 6), nn.Linear(6, 2)
        self.double()
        self.keeps_zeros, self.recomputes, self.leaves_out = keeps_zeros, recomputes, leaves_out
        self.sharded, self.automatic_optimization = sharded, not by_hand
        self.seen: list[float] = []

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        x, y = batch
        again = self.recomputes
        x = x.requires_grad_(again == "reentrant")  # which otherwise finds no gradient to compute
        hidden = self.inner(x) if again is None else checkpoint(self.inner, x, use_reentrant=again == "reentrant")
        hidden = self.norm(hidden)
        if not (self.leaves_out and batch_idx % 2):
            hidden = self.middle(hidden)
        loss = nn.functional.mse_loss(self.outer(hidden), y)
        if not self.automatic_optimization:
            optimizer = self.optimizers()
            optimizer.zero_grad(set_to_none=not self.keeps_zeros)
            self.manual_backward(loss)
            self.clip_gradients(optimizer, gradient_clip_val=0.1)
            optimizer.step()
        return loss

    def optimizer_zero_grad(self, epoch: int, batch_idx: int, optimizer: Any) -> None:
        optimizer.zero_grad(set_to_none=not self.keeps_zeros)

    def on_before_optimizer_step(self, optimizer: Any) -> None:
        self.seen.append(sum(each.grad.sum().item() for each in self.parameters() if each.grad is not None))

    def configure_optimizers(self) -> Any:
        if self.sharded:
            return ZeroRedundancyOptimizer(self.parameters(), torch.optim.SGD, lr=0.1)
        return torch.optim.SGD(self.parameters(), lr=0.1, momentum=0.9)


def takes_something_else(state: Any, bucket: int) -> Any:
    """Is no hook, as torch sees by the annotation."""


def loader() -> DataLoader[Any]:
    generator = torch.Generator().manual_seed(0)
    x, y = torch.randn(48, 4, generator=generator).double(), torch.randn(48, 2, generator=generator).double()
    return DataLoader(TensorDataset(x, y), batch_size=3)


def fit(strategy: Any, module: Net, **arguments: Any) -> dict[str, Any]:
    trainer = quiet_trainer(strategy=strategy, **arguments)
    trainer.fit(module, loader())
    gradients = {name: each.grad.clone() for name, each in module.named_parameters() if each.grad is not None}
    buffers = {name: each.clone() for name, each in module.named_buffers()}
    weights = {name: each.detach().clone() for name, each in module.named_parameters()}
    return {"weights": weights, "seen": module.seen, "gradients": gradients, "buffers": buffers}


def refused(strategy: Any, module: Net, **arguments: Any) -> str:
    try:
        fit(strategy, module, **arguments)
    except TrainkitError as error:
        return f"{type(error).__name__}: {error}"
    return "was not refused"


def resumed(folder: Path) -> str:
    """Continue a run whose hook keeps an error that it makes up for later."""
    save = {"enable_checkpointing": True, "default_root_dir": folder}
    fit(DDP(comm_hook=powerSGD_hook, comm_state=PowerSGDState(None, start_powerSGD_iter=2)), Net(), **save)
    trainer = quiet_trainer(
        strategy=DDP(comm_hook=powerSGD_hook, comm_state=PowerSGDState(None, start_powerSGD_iter=2)),
        **(save | {"max_epochs": 2}),
    )
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        trainer.fit(Net(), loader(), ckpt_path="last")
    return "\n".join(str(each.message) for each in told)


def main(folder: Path) -> None:
    grouped = {"accumulate_grad_batches": 2, "gradient_clip_val": 0.1}
    lightning = DDPStrategy(bucket_cap_mb=1e-4, ddp_comm_hook=allreduce_hook, broadcast_buffers=True)
    wrapped = DDPStrategy(ddp_comm_hook=allreduce_hook, ddp_comm_wrapper=fp16_compress_wrapper)
    power = PowerSGDState(None, matrix_approximation_rank=1, start_powerSGD_iter=2)
    results: dict[str, Any] = {
        "default": fit(DDP(), Net()),
        "no views": fit(DDP(gradient_as_bucket_view=False), Net()),
        "views of zeros": fit(DDP(), Net(keeps_zeros=True)),
        "small buckets": fit(DDP(bucket_cap_mb=1e-4), Net()),
        "static": fit(DDP(static_graph=True), Net()),
        "static, recomputed": fit(DDP(static_graph=True), Net(recomputes="plain")),
        "static, recomputed with reentry": fit(DDP(static_graph=True), Net(recomputes="reentrant")),
        "hook": fit(lightning, Net()),
        "grouped": fit(DDP(), Net(), **grouped),
        "grouped, no views": fit(DDP(gradient_as_bucket_view=False), Net(), **grouped),
        "grouped, views of zeros": fit(DDP(), Net(keeps_zeros=True), **grouped),
        "grouped, static": fit(DDP(static_graph=True), Net(), **grouped),
        "grouped, hook": fit(DDP(comm_hook=allreduce_hook), Net(), **grouped),
        "by hand": fit(DDP(), Net(by_hand=True)),
        "by hand, no views": fit(DDP(gradient_as_bucket_view=False), Net(by_hand=True, keeps_zeros=True)),
        "unused": fit(DDP(find_unused_parameters=True), Net(leaves_out=True)),
        "unused, no views": fit(DDP(find_unused_parameters=True, gradient_as_bucket_view=False), Net(leaves_out=True)),
        "own buffers": fit(DDP(broadcast_buffers=False), Net()),
        "half": fit(DDP(comm_hook=fp16_compress_hook), Net()),
        "half, wrapped": fit(wrapped, Net()),
        "low rank": fit(DDP(comm_hook=powerSGD_hook, comm_state=power), Net()),
        "resumed": resumed(folder),
        "hook by hand": refused(DDP(comm_hook=allreduce_hook), Net(by_hand=True)),
        "hook in parts": refused(DDP(comm_hook=allreduce_hook), Net(), accumulate_grad_batches="auto"),
        "other hook": refused(DDP(comm_hook=takes_something_else), Net()),
        "shared statistics": refused(DDP(), Net(), sync_batchnorm=True),
        "sharded optimizer": refused(DDP(), Net(sharded=True)),
    }
    torch.save(results, folder / f"rank_{RANK}.pt")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
