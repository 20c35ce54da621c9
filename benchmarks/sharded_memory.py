"""The peak memory of a rank against that of the whole model: ``torchrun ... -m benchmarks.sharded_memory STRATEGY``.

Prints what the process had taken at most, beyond what it had before the module was made, and what parameters, gradients
and the state of AdamW take as a whole. Set ``MALLOC_MMAP_THRESHOLD_=131072``, or glibc keeps much of what is freed.
"""

from __future__ import annotations

import os
import resource
import sys
from typing import Any

import torch
from torch import Tensor, nn

import trainkit as tk
from trainkit.strategies import FSDP

SIZE, LAYERS, BATCH = 2048, 18, 16


class Block(nn.Module):
    """One layer of about 17 MB."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(SIZE, SIZE)

    def forward(self, x: Tensor) -> Tensor:
        """Return ``x``, changed a little."""
        return x + self.linear(x).tanh()


class Wide(tk.TrainModule):
    """Layers that are made where they are needed: on the meta device if they are to be sharded."""

    def __init__(self, on_meta: bool) -> None:
        super().__init__()
        self.on_meta = on_meta

    def configure_model(self) -> None:
        with torch.device("meta" if self.on_meta else "cpu"):
            self.blocks = nn.ModuleList([Block() for _ in range(LAYERS)])

    def training_step(self, batch: Tensor, batch_idx: int) -> Tensor:
        x = batch
        for block in self.blocks:
            x = block(x)
        return x.square().mean()

    def configure_optimizers(self) -> Any:
        return torch.optim.AdamW(self.parameters(), lr=1e-4, foreach=False)


def main(strategy: str) -> None:
    """Train a few steps, and print the memory."""
    rank = int(os.environ.get("RANK", 0))
    kinds: dict[str, Any] = {"single": "auto", "ddp": "ddp", "fsdp": FSDP()}
    kinds["fsdp-kept"] = FSDP(reshard_after_forward=False)
    trainer = tk.Trainer(
        accelerator="cpu",
        strategy=kinds[strategy],
        max_steps=3,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.strategy.setup()
    import torch.distributed.fsdp  # not part of what training takes

    before = _peak_bytes()
    trainer.fit(Wide(on_meta=strategy.startswith("fsdp")), [torch.randn(BATCH, SIZE) for _ in range(3)])
    whole = 4 * 4 * LAYERS * (SIZE * SIZE + SIZE)
    peak = _peak_bytes() - before
    print(f"{strategy} rank {rank}: {peak / 1e6:.0f} MB, {peak / whole:.2f} of {whole / 1e6:.0f} MB", flush=True)


def _peak_bytes() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


if __name__ == "__main__":
    main(sys.argv[1])
