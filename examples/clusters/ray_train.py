"""Trains on two workers of Ray Train, which are started again, from the newest checkpoint, when one is lost.

``pip install 'trainkit[ray]'``, then ``python -m examples.clusters.ray_train STORAGE``. On a cluster, STORAGE is a
folder that all machines share, or a URL.
"""

from __future__ import annotations

import sys
from contextlib import nullcontext
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import ray.train
from ray.train import Checkpoint, FailureConfig, RunConfig, ScalingConfig
from ray.train.torch import TorchConfig, TorchTrainer

from examples.digits.data import DigitsData
from examples.digits.module import Digits
from trainkit import Callback, DataModule, Trainer, TrainModule

FILE = "last.ckpt"


class ReportToRay(Callback):
    """Hands metrics and a checkpoint to Ray at the end of each epoch."""

    def on_train_epoch_end(self, trainer: Trainer) -> None:
        metrics = {name: float(value) for name, value in trainer.callback_metrics.items()}
        with TemporaryDirectory() as folder:
            # All ranks call both: rank 0 writes the file, and Ray waits for a report of each worker.
            trainer.save_checkpoint(Path(folder, FILE))
            checkpoint = Checkpoint.from_directory(folder) if trainer.is_global_zero else None
            ray.train.report({**metrics, "epoch": trainer.current_epoch}, checkpoint=checkpoint)


def fit(trainer: Trainer, module: TrainModule, data: DataModule) -> None:
    """Train, from the newest checkpoint that Ray has of this run if there is one."""
    newest = ray.train.get_checkpoint()
    with newest.as_directory() if newest else nullcontext() as folder:
        trainer.fit(module, datamodule=data, ckpt_path=Path(folder, FILE) if folder else None)


def train(config: dict[str, Any]) -> None:
    """What each worker does. Ray has started the process group, and trainkit finds its ranks there."""
    # Ray keeps the checkpoints, so the Trainer writes none of its own.
    trainer = Trainer(
        max_epochs=config["max_epochs"], callbacks=ReportToRay(), logger=False, enable_checkpointing=False
    )
    fit(trainer, Digits(), DigitsData())


def main(storage: str) -> None:
    """Start the workers, and print what they have reported last."""
    workers = TorchTrainer(
        train,
        train_loop_config={"max_epochs": 4},
        torch_config=TorchConfig(backend="gloo"),  # nccl with GPUs, which ScalingConfig(use_gpu=True) asks for
        scaling_config=ScalingConfig(num_workers=2),
        run_config=RunConfig(name="digits", storage_path=storage, failure_config=FailureConfig(max_failures=3)),
    )
    print(workers.fit().metrics)


if __name__ == "__main__":
    main(sys.argv[1])
