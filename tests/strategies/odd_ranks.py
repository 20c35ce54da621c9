"""A fit in which one rank does something else than the others: ``odd_ranks.py FOLDER RANK HOOK ACTION``."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch import distributed as dist
from torch.utils.data import DataLoader, TensorDataset

from trainkit import Trainer
from trainkit.errors import RankError
from trainkit.hooks.specs import HOOKS
from trainkit.strategies.ranks.rank_watch import PATIENCE_S
from trainkit.testing import TinyModule

FOLDER, ODD, HOOK, ACTION = (*sys.argv[1:5], "", "0", "", "")[:4] if len(sys.argv) == 5 else ("", "0", "", "")


def save(trainer: Trainer) -> None:
    trainer.save_checkpoint(f"{FOLDER}/odd.ckpt")


def stop(trainer: Trainer) -> None:
    trainer.should_stop = True


def fail(trainer: Trainer) -> None:
    raise ValueError("something is wrong here")


def log(trainer: Trainer) -> None:
    trainer.strategy.all_reduce(torch.ones(1))  # what `log(..., on_step=True, sync_dist=True)` does


def keep_signalled_rank_waiting(trainer: Trainer) -> None:
    """Ask the other rank to end, and be busy for longer than a rank waits that nobody comes for."""
    os.kill(int(Path(FOLDER, f"pid_{1 - trainer.global_rank}").read_text()), signal.SIGTERM)
    time.sleep(PATIENCE_S + 4)


ACTIONS: dict[str, Callable[[Trainer], Any]] = {
    "saves": save,
    "stops": stop,
    "raises": fail,
    "logs": log,
    "sleeps": lambda trainer: time.sleep(5),
    "meets": lambda trainer: dist.barrier(),
    "is signalled": lambda trainer: os.kill(os.getpid(), signal.SIGTERM),
    "is killed": lambda trainer: os.kill(os.getpid(), signal.SIGKILL),
    "is busy": keep_signalled_rank_waiting,
    "skips": lambda trainer: -1,
}


class Odd:
    """Does it once, in the second batch or at the first chance after it."""

    done = False

    def act(self, trainer: Trainer) -> Any:
        if (
            self.done
            or trainer.global_rank != int(ODD)
            or trainer.sanity_checking
            or trainer.progress.total_batches < 2
        ):
            return None
        self.done = True
        return ACTIONS[ACTION](trainer)


class Module(TinyModule):
    """Has buffers, which ranks exchange ahead of each step."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.BatchNorm1d(4)

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(self.norm(x))

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        if HOOK == "training_step" and self.global_rank == int(ODD) and batch_idx == 2:
            return None
        return super().training_step(batch, batch_idx)


def loader(samples: int) -> DataLoader[Any]:
    generator = torch.Generator().manual_seed(0)
    x, y = torch.randn(samples, 4, generator=generator), torch.randn(samples, 2, generator=generator)
    return DataLoader(TensorDataset(x, y), batch_size=2)


def main() -> None:
    Path(FOLDER, f"pid_{os.environ['RANK']}").write_text(str(os.getpid()))
    # Defined here and not found by name, so that it may be any hook; with the name that messages are to have.
    if HOOK in HOOKS:
        exec(f"def {HOOK}(self, trainer):\n    return self.act(trainer)", scope := {})
        setattr(Odd, HOOK, scope[HOOK])
    trainer = Trainer(
        accelerator="cpu",
        strategy="ddp",
        max_epochs=2,
        callbacks=[Odd()],
        logger=False,
        default_root_dir=FOLDER,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    try:
        module = Module()
        trainer.fit(module, loader(24), loader(9), ckpt_path="last" if ACTION == "goes on" else None)
    except (RankError, ValueError) as error:
        print(f"{type(error).__name__}: {error}", flush=True)
        raise SystemExit(7) from None
    validated = trainer.callback_metrics["val/loss"].item()
    print(f"ended at step {trainer.global_step} with {module.layer.weight.tolist()}, {validated}", flush=True)


if __name__ == "__main__":
    main()
