"""Programs drawn by chance that begin on some ranks and go on with others, and what each trains on and comes to."""

from __future__ import annotations

import random
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, DistributedSampler, RandomSampler, WeightedRandomSampler

from trainkit import Callback, Trainer, TrainModule, seed_everything
from trainkit.data import TensorLoader
from trainkit.strategies import DDP

FEATURES, EPOCHS = 4, 3
DATA = ["in order", "shuffled", "generator", "weighted", "torch's sampler", "tensors", "tensors in order", "combined"]
CHAINS = [(2, 1), (2, 3), (2, 5), (3, 2), (3, 4), (1, 2), (1, 3), (2, 1, 3), (2, 3, 2), (1, 3, 1)]


class Stop(Exception):
    """Ends a run where it is, as a kill would."""


@dataclass(frozen=True)
class Program:
    """One way to train, and where it goes on with another number of ranks.

    Attributes:
        chain: The numbers of ranks, one after the other.
        places: After how many training batches, or batches of a validation, each but the last run ends.
    """

    seed: int
    chain: tuple[int, ...]
    data: str
    loss: str
    optimizer: str
    accumulate: int
    samples: int
    size: int
    drops_last: bool
    workers: int
    limit: int | float
    validation_limit: int | float
    scales_size: bool
    places: tuple[tuple[str, int], ...]

    @classmethod
    def draw(cls, seed: int, chain: tuple[int, ...] | None = None) -> Program:
        """Return the program of ``seed``."""
        draw = random.Random(seed)
        drawn = draw.choice(CHAINS)
        chain = chain or drawn
        drops_last = draw.random() < 0.3
        size = draw.choice([2, 3, 4, 6]) * (6 // chain[0] if chain[0] < 3 else 2)
        data = draw.choice(DATA)
        if data == "combined":  # whose batches are shared out evenly or not at all
            size = 60 // chain[0]
        samples = draw.randint(2 * chain[0] * size, 4 * chain[0] * size)
        if data == "combined":
            samples = 4 * chain[0] * size
        batches = samples // (chain[0] * size)
        places = []
        for index in range(len(chain) - 1):
            kind = draw.choice(["training", "training", "training", "validation"])
            # In an epoch of its own.
            places.append((kind, index * batches + draw.randint(1, batches) if kind == "training" else index + 1))
        program = cls(
            seed=seed,
            chain=chain,
            data=data,
            loss=draw.choice(["mean", "mean", "sum with its weight", "manual"]),
            optimizer=draw.choice(["sgd", "adamw"]),
            accumulate=draw.choice([1, 1, 2, 3]),
            samples=samples,
            size=size,
            drops_last=drops_last,
            workers=draw.choice([0, 0, 0, 2]) if not data.startswith("tensors") else 0,
            limit=draw.choice([1.0, 1.0, 0.7, 2]),
            validation_limit=draw.choice([1.0, 2, 0.5]),
            # Only where each rank has as many.
            scales_size=all(chain[0] * size % ranks == 0 for ranks in chain) and draw.random() < 0.3,
            places=tuple(places),
        )
        # A limited run may have ended by then.
        limit = int(batches * program.limit) if isinstance(program.limit, float) else min(batches, program.limit)
        return replace(program, places=tuple((kind, min(number, EPOCHS * limit)) for kind, number in places))

    def size_on(self, ranks: int) -> int:
        """The batch size that the code says."""
        return self.chain[0] * self.size // ranks if self.scales_size else self.size


class Samples(Dataset[tuple[Tensor, Tensor]]):
    """Samples that are known by their number."""

    def __init__(self, count: int) -> None:
        self.x = torch.randn(count, FEATURES, dtype=torch.float64, generator=torch.Generator().manual_seed(count))
        self.count = count

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        return torch.tensor(index), self.x[index]


class Net(TrainModule):
    """Trains, and notes of which samples each batch was made, with their losses."""

    def __init__(self, program: Program) -> None:
        super().__init__()
        self.program = program
        self.automatic_optimization = program.loss != "manual"
        self.net = nn.Sequential(nn.Linear(FEATURES, 5), nn.Tanh(), nn.Linear(5, 1))
        self.seen: dict[int, list[tuple[int, float]]] = {}
        self.logged: dict[int, dict[str, float]] = {}

    def losses(self, batch: Any) -> tuple[Tensor, Tensor]:
        index, x = batch["a"] if isinstance(batch, dict) else batch
        return index, (self.net(x).squeeze(1) - x.sum(1)).square()

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        index, losses = self.losses(batch)
        pairs = sorted(zip(index.tolist(), losses.tolist(), strict=True))
        self.seen[self.trainer.progress.total_batches] = pairs
        self.log("train/loss", losses.mean(), on_step=False, on_epoch=True, batch_size=len(losses))
        self.log("train/worst", losses.max(), on_step=False, on_epoch=True, reduce_fx="max")
        if isinstance(batch, dict):
            losses = losses + (self.net(batch["b"][1]).squeeze(1).square().mean())
        if self.program.loss == "manual":
            optimizer, closes = self.optimizers(), (batch_idx + 1) % self.program.accumulate == 0
            closes = closes or self.trainer.is_last_batch
            with self.trainer.strategy.gradient_sync(enabled=closes or self.program.seed % 2 == 0):
                self.manual_backward(losses.mean())
            if closes:
                optimizer.step()
                optimizer.zero_grad()
            return None
        if self.program.loss == "mean":
            return losses.mean()
        return {"loss": losses.sum(), "weight": len(losses)}

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        self.log("val/loss", self.losses(batch)[1].mean())

    def on_train_epoch_end(self) -> None:
        self.logged[self.trainer.current_epoch] = {
            name: float(value) for name, value in self.trainer.callback_metrics.items()
        }

    def configure_optimizers(self) -> Any:
        if self.program.optimizer == "sgd":
            return torch.optim.SGD(self.parameters(), lr=0.02, momentum=0.9)
        return torch.optim.AdamW(self.parameters(), lr=0.02, eps=1e-3)


class Ends(Callback):
    """Saves at a place, and ends the run there."""

    def __init__(self, place: tuple[str, int], path: Path) -> None:
        self.kind, self.number = place
        self.path = path

    def on_train_batch_end(self, trainer: Trainer) -> None:
        if self.kind == "training" and trainer.progress.total_batches == self.number:
            self.end(trainer)

    def on_validation_batch_end(self, trainer: Trainer) -> None:
        if self.kind == "validation" and trainer.progress.epoch + 1 == self.number:
            self.end(trainer)

    def end(self, trainer: Trainer) -> None:
        trainer.save_checkpoint(self.path)
        raise Stop


def loader_of(program: Program, ranks: int, rank: int) -> Any:
    """Return the training loader as a user writes it."""
    data, size = Samples(program.samples), program.size_on(ranks)
    kept = {"batch_size": size, "drop_last": program.drops_last}
    if program.data.startswith("tensors"):
        return TensorLoader(torch.arange(len(data)), data.x, shuffle=program.data == "tensors", **kept)
    kept["num_workers"] = program.workers
    generator = torch.Generator().manual_seed(program.seed + 100 * rank)
    if program.data == "combined":
        return {"a": DataLoader(data, shuffle=True, **kept), "b": DataLoader(data, **kept)}
    sampler: Any = {
        "generator": lambda: RandomSampler(data, generator=generator),
        "weighted": lambda: WeightedRandomSampler(torch.arange(len(data)) + 1.0, len(data)),
        "torch's sampler": lambda: DistributedSampler(data, ranks, rank, drop_last=program.seed % 2 == 0),
    }.get(program.data, lambda: None)()
    return DataLoader(data, sampler=sampler, shuffle=program.data == "shuffled", **kept)


def run(program: Program, link: int | None, rank: int, folder: Path) -> dict[str, Any]:
    """Train ``program`` on the ranks of a link of its chain; None trains it whole, on those with which it begins.

    Returns:
        What was seen and logged, and the weights if it came to its end.
    """
    ranks = program.chain[link or 0]
    seed_everything(program.seed)
    module = Net(program)
    callbacks: list[Any] = []
    if link is not None and link < len(program.places):
        callbacks = [Ends(program.places[link], folder / f"{program.seed}_{link}.ckpt")]
    trainer = Trainer(
        max_epochs=EPOCHS,
        accelerator="cpu",
        strategy=DDP() if ranks > 1 else "auto",
        precision="64-true",
        accumulate_grad_batches=1 if program.loss == "manual" else program.accumulate,
        limit_train_batches=program.limit,
        limit_val_batches=program.validation_limit,
        num_sanity_val_steps=0,
        callbacks=callbacks,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        default_root_dir=folder,
    )
    validated = DataLoader(Samples(7 * program.chain[0]), batch_size=2)
    path = folder / f"{program.seed}_{link - 1}.ckpt" if link else None
    try:
        trainer.fit(module, loader_of(program, ranks, rank), validated, ckpt_path=path)
    except Stop:
        return {"seen": module.seen, "logged": module.logged, "weights": None}
    return {"seen": module.seen, "logged": module.logged, "weights": module.state_dict()}
