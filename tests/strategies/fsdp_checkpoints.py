"""Fits that go on from files of other fits: ``python fsdp_checkpoints.py FOLDER save|load`` on each rank.

``save`` leaves ``FOLDER/STRATEGY_BATCHES.ckpt``, and what came of going on from them; ``load`` what is there when a
fit has loaded the file of an epoch's end.
"""

from __future__ import annotations

import copy
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import nn

from tests.strategies.fsdp_fit import Manual, Net, attempt, fit
from trainkit import Trainer
from trainkit.callbacks import Callback, EMAWeightAveraging
from trainkit.module.shards import mapped, whole
from trainkit.strategies import DDP, FSDP, Strategy

IN_GROUP, IN_EPOCH, AT_END = 4, 5, 6
"""Batches after which is saved, of 3 in an epoch: within a group of two, in the middle of an epoch, at its end."""

STRATEGIES: dict[str, Callable[[], Strategy]] = {
    "ddp": DDP,
    "fsdp": FSDP,
    "root": lambda: FSDP(wrap_policy=lambda module: False, checkpoint="full"),
}


class SaveAfter(Callback):
    """Saves behind some training batches."""

    stage = "persist"

    def __init__(self, paths: dict[int, Path]) -> None:
        self.paths, self.batches = paths, 0

    def on_train_batch_end(self, trainer: Trainer) -> None:
        self.batches += 1
        if self.batches != AT_END:
            self.save(trainer)

    def on_train_epoch_end(self, trainer: Trainer) -> None:
        if self.batches == AT_END:
            self.save(trainer)

    def save(self, trainer: Trainer) -> None:
        if self.batches in self.paths:
            trainer.save_checkpoint(self.paths[self.batches])


class Loaded(Callback):
    """Notes what was loaded, all of it."""

    def on_train_start(self, trainer: Trainer, module: nn.Module) -> None:
        states = [each.state_dict() for each in trainer.optimizers]
        found = mapped({"weights": {**module.state_dict()}, "optimizers": states}, lambda each: whole(each.detach()))
        self.found = copy.deepcopy(found)  # training goes on


def train(kind: type[Net], strategy: Strategy, *callbacks: Callback, **arguments: Any) -> dict[str, Any]:
    accumulate = {} if kind is Manual else {"accumulate_grad_batches": 2}
    options = {**accumulate, **arguments}
    found = fit(kind(), strategy, max_epochs=3, callbacks=[EMAWeightAveraging(decay=0.5), *callbacks], **options)
    return {name: found[name] for name in ("weights", "logged", "predicted")}


def save(folder: Path) -> dict[str, Any]:
    """Return what came of each fit: to its end, and on from each place of each other."""
    results: dict[str, Any] = {}
    for kind in (Net, Manual):
        for name, make in STRATEGIES.items():
            paths = {at: folder / f"{kind.__name__}_{name}_{at}.ckpt" for at in (IN_GROUP, IN_EPOCH, AT_END)}
            results[f"{kind.__name__} {name}"] = attempt(
                lambda kind=kind, make=make, paths=paths: train(kind, make(), SaveAfter(paths))
            )
        for name, make in STRATEGIES.items():
            for source, at in (
                *(("ddp", IN_GROUP), ("root", IN_GROUP)),
                *(("fsdp", IN_GROUP), ("fsdp", IN_EPOCH), ("fsdp", AT_END)),
            ):
                path = folder / f"{kind.__name__}_{source}_{at}.ckpt"
                results[f"{kind.__name__} {name} from {source} after {at}"] = attempt(
                    lambda kind=kind, make=make, path=path: train(kind, make(), ckpt_path=path)
                )
    return results


def load(folder: Path) -> dict[str, Any]:
    """Return what was loaded from the files of an epoch's end."""
    results: dict[str, Any] = {}
    for source in ("ddp", "fsdp"):
        loaded = Loaded()
        path = folder / f"Net_{source}_{AT_END}.ckpt"
        gone_on = attempt(lambda path=path, loaded=loaded: train(Net, FSDP(), loaded, ckpt_path=path))
        results[source] = (
            gone_on if isinstance(gone_on, str) else {**loaded.found, "weights at end": gone_on["weights"]}
        )
    return results


def main(folder: Path, what: str) -> None:
    results = {"save": save, "load": load}[what](folder)
    torch.save(results, folder / f"{what}_{os.environ.get('RANK', 0)}.pt")


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
