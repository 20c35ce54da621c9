"""A fit of two workers of Ray Train, one of which is killed: ``python -m tests.ray_fit FOLDER``.

It trains what launched_fit.py trains, and writes the same. FOLDER/began.txt has a line for each start of rank 0:
whether it had a checkpoint; FOLDER/task.txt has what a Trainer on two devices is told in a task of Ray.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

import ray
import ray.train
import torch
from ray.train import FailureConfig, RunConfig, ScalingConfig
from ray.train.torch import TorchConfig, TorchTrainer

from examples.clusters.ray_train import ReportToRay, fit
from tests.strategies.launched_fit import Data, Net
from trainkit import Callback, Trainer
from trainkit.errors import DeviceError


class KillRank1(Callback):
    """Kills the process of rank 1 in the middle of the second epoch, once, when Ray knows of a checkpoint."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def on_train_batch_end(self, trainer: Trainer, batch_idx: int) -> None:
        killed = self.folder / "killed"
        if (trainer.global_rank, trainer.current_epoch, batch_idx) == (1, 1, 3) and not killed.exists():
            # Reports are looked at every few seconds, and noted in this file.
            while not list(self.folder.rglob("checkpoint_manager_snapshot.json")):
                time.sleep(0.05)
            killed.touch()
            os.kill(os.getpid(), signal.SIGKILL)


def train(config: dict[str, Any]) -> None:
    folder = Path(config["folder"])
    torch.manual_seed(0)
    net = Net(str(folder))
    quiet = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False}
    callbacks = [ReportToRay(), KillRank1(folder)]
    trainer = Trainer(max_epochs=2, accelerator="cpu", callbacks=callbacks, enable_checkpointing=False, **quiet)
    if trainer.is_global_zero:
        with (folder / "began.txt").open("a") as began:
            began.write(f"{ray.train.get_checkpoint() is not None}\n")
    fit(trainer, net, Data())
    if trainer.is_global_zero:
        done = {"world_size": trainer.world_size, "step": trainer.global_step, **net.state_dict()}
        torch.save(done, folder / "weights.pt")


@ray.remote
def make_a_trainer() -> str:
    try:
        Trainer(accelerator="cpu", devices=2)
    except DeviceError as error:
        return str(error)
    return "made"


def main(folder: Path) -> None:
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=True)
    (folder / "task.txt").write_text(ray.get(make_a_trainer.remote()))
    workers = TorchTrainer(
        train,
        train_loop_config={"folder": str(folder)},
        torch_config=TorchConfig(backend="gloo"),
        scaling_config=ScalingConfig(num_workers=2, resources_per_worker={"CPU": 0.5}),
        run_config=RunConfig(storage_path=str(folder / "ray"), failure_config=FailureConfig(max_failures=1)),
    )
    workers.fit()


if __name__ == "__main__":
    main(Path(sys.argv[1]).absolute())
