"""A program that trains on however many ranks it is started, and goes on where it was stopped.

``python launched_fit.py FOLDER [KEY=VALUE ...]``; values are read as Python. Every process notes in FOLDER/begun how it
was started, and rank 0 in FOLDER/weights.pt what came out. Keys: ``step_s`` is how long a step takes, ``fails`` is the
exit code with which rank 1 ends in its second step, ``moves`` is whether it changes into FOLDER; all others are
arguments of the Trainer.
"""

from __future__ import annotations

import ast
import json
import os
import sys
import time
from pathlib import Path
from typing import Any

import torch
from torch.distributed.tensor import DTensor
from torch.utils.data import DataLoader, TensorDataset

from trainkit import DataModule, Trainer, TrainModule
from trainkit.callbacks import ModelCheckpoint


class Net(TrainModule):
    def __init__(self, folder: str, step_s: float = 0, fails: int = 0) -> None:
        super().__init__()
        self.folder, self.step_s, self.fails = Path(folder), step_s, fails
        self.net = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.Dropout(0.2), torch.nn.Linear(8, 1))

    def training_step(self, batch: Any, batch_idx: int) -> torch.Tensor:
        time.sleep(self.step_s)
        if self.fails and batch_idx == 1 and self.trainer.global_rank == 1:
            sys.exit(self.fails)
        (self.folder / "trains").touch()
        return self.net(batch[0]).square().mean()

    def configure_optimizers(self) -> Any:
        return torch.optim.Adam(self.parameters(), lr=0.01)


class Data(DataModule):
    def train_dataloader(self) -> Any:
        data = TensorDataset(torch.randn(48, 4, generator=torch.Generator().manual_seed(1)))
        return DataLoader(data, batch_size=2, shuffle=True)


def note_how_it_began(folder: Path) -> None:
    begun = {
        "argv": sys.argv,
        "rank": os.environ.get("RANK", os.environ.get("SLURM_PROCID")),
        "warns": sys.warnoptions,
        "xoptions": sorted(sys._xoptions),
        "cwd": os.getcwd(),
        "restart": os.environ.get("TORCHELASTIC_RESTART_COUNT"),
    }
    (folder / "begun").mkdir(parents=True, exist_ok=True)
    (folder / "begun" / f"{os.getpid()}.json").write_text(json.dumps(begun))


def main() -> None:
    folder = Path(sys.argv[1])
    options = {key: ast.literal_eval(value) for key, _, value in (each.partition("=") for each in sys.argv[2:])}
    note_how_it_began(folder)
    if options.pop("moves", False):
        os.chdir(folder)
    torch.manual_seed(0)
    net = Net(str(folder), **{name: options.pop(name) for name in ("step_s", "fails") if name in options})
    quiet = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False}
    given = {"max_epochs": 2, "accelerator": "cpu", "default_root_dir": folder, **quiet}
    given |= options
    trainer = Trainer(callbacks=ModelCheckpoint(every_n_train_steps=2), **given)
    trainer.fit(net, datamodule=Data(), ckpt_path="last")
    # Another Trainer of the same program finds itself in the ranks that the first one has started.
    given = {name: given[name] for name in ("accelerator", "default_root_dir", "logger")}
    second = Trainer(devices=options.get("devices", "auto"), **given)
    assert second.world_size == trainer.world_size
    # What is sharded is made whole, which all ranks have to do.
    state = {name: each.full_tensor() if isinstance(each, DTensor) else each for name, each in net.state_dict().items()}
    if trainer.is_global_zero:
        counts = {"world_size": trainer.world_size, "step": trainer.global_step}
        torch.save(counts | {name: each.cpu() for name, each in state.items()}, folder / "weights.pt")


if __name__ == "__main__":
    main()
