"""Programs drawn by chance, and what they come to on some ranks: weights, metrics, predictions.

A global batch has the same samples whatever the number of ranks. `reference` is what one process makes of them.
"""

from __future__ import annotations

import random
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, RandomSampler, Sampler, SequentialSampler, TensorDataset, WeightedRandomSampler

from trainkit import Trainer, TrainModule, seed_everything
from trainkit.data import TensorLoader
from trainkit.data.sampler import ShardedSampler
from trainkit.module.shards import whole
from trainkit.strategies import DDP, FSDP, Strategy

GLOBAL_BATCH = 6
"""Samples in a batch of all ranks: a multiple of 1, 2 and 3."""

FEATURES, CLASSES, STEPS = 4, 3, 20

MODELS = ["plain", "tied", "norm", "table", "sparse", "frozen", "thawed", "toggled", "added", "unused"]


@dataclass(frozen=True)
class Program:
    """One way to train."""

    seed: int
    model: str
    is_manual: bool
    loss: str
    optimizer: str
    schedule: str
    accumulate: int
    clip: str
    precision: str
    sampler: str
    samples: int
    drops_last: bool
    evaluated: int

    @classmethod
    def draw(cls, seed: int) -> Program:
        """Return the program of ``seed``."""
        draw = random.Random(seed)
        model = draw.choice(MODELS)
        is_manual = draw.random() < 0.4
        drops_last = draw.random() < 0.3
        optimizer = "sgd" if model == "sparse" else draw.choice(["sgd", "momentum", "adamw", "rmsprop"])
        # Optimizers that divide by the size of a gradient make much of what is rounded in a small one.
        is_double = optimizer in ("adamw", "rmsprop") or draw.random() < 0.5
        return cls(
            seed=seed,
            model=model,
            is_manual=is_manual,
            loss=draw.choice(["mean", "sum with its weight"]) if not is_manual else "mean",
            optimizer=optimizer,
            schedule=draw.choice(["none", "by step", "by epoch", "plateau"]),
            accumulate=draw.choice([1, 1, 2, 3]),
            clip="none" if model == "sparse" else draw.choice(["none", "norm", "value"]),
            precision="64-true" if is_double else "32-true",
            sampler=draw.choice(["in order", "shuffled", "generator", "weighted", "own batches", "tensors"]),
            # Of dropped samples a whole batch of each rank has to be left.
            samples=draw.randint(GLOBAL_BATCH if drops_last else 1, 4 * GLOBAL_BATCH),
            drops_last=drops_last,
            evaluated=draw.randint(1, 3 * GLOBAL_BATCH),
        )

    def suits(self, strategy: str) -> bool:
        """Whether ``strategy`` can run it: sharded are no sparse gradients, and no layers that are added later."""
        return strategy == "ddp" or self.model not in ("sparse", "added")

    @property
    def dtype(self) -> torch.dtype:
        """The dtype of weights and data."""
        return torch.float64 if self.precision == "64-true" else torch.float32

    @property
    def tolerance(self) -> float:
        """How far apart weights may be."""
        return 1e-6 if self.precision == "64-true" else 1e-2  # rounding grows in 20 steps


class Net(TrainModule):
    """What a `Program` trains."""

    def __init__(self, program: Program) -> None:
        super().__init__()
        self.program = program
        self.automatic_optimization = not program.is_manual
        torch.manual_seed(program.seed)
        hidden = FEATURES
        self.inner = nn.Linear(FEATURES, hidden)
        self.middle = self.inner if program.model == "tied" else nn.Linear(hidden, hidden)
        self.norm = nn.LayerNorm(hidden) if program.model == "norm" else nn.Identity()
        self.outer = nn.Linear(hidden, CLASSES)
        has_table = program.model in ("table", "sparse")
        self.table = nn.Embedding(5, hidden, sparse=program.model == "sparse") if has_table else None
        self.spare = nn.Linear(hidden, hidden) if program.model == "unused" else None
        self.added: nn.Module | None = None
        if program.model in ("frozen", "toggled"):
            self.middle.requires_grad_(False)
        if program.model == "thawed":
            self.requires_grad_(False)

    def forward(self, x: Tensor) -> Tensor:
        hidden = self.norm(self.middle(self.inner(x).tanh()))
        if self.table is not None:
            hidden = hidden + self.table(x[:, 0].abs().mul(2).long().clamp(max=4))
        if self.added is not None:
            hidden = hidden + self.added(x)
        return self.outer(hidden.tanh())

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        if self.program.model == "toggled":
            self.middle.requires_grad_(self.trainer.global_step % 4 > 1)
        if self.program.model == "unused":
            self.spare.requires_grad_(False)
        x, y = batch
        # Of some samples, so that weights differ between ranks.
        counts = x[:, 1] > -0.5 if self.program.loss != "mean" else torch.ones(len(x), dtype=torch.bool)
        losses = nn.functional.mse_loss(self(x), y, reduction="none").sum(1) * counts
        self.log("train/loss", losses.mean(), on_step=False, on_epoch=True)
        if self.program.is_manual:
            self.update(losses.mean(), batch_idx)
            return None
        if self.program.loss == "mean":
            return losses.mean()
        return {"loss": losses.sum(), "weight": counts.sum()}

    def update(self, loss: Tensor, batch_idx: int) -> None:
        optimizer, k = self.optimizers(), self.program.accumulate
        closes = (batch_idx + 1) % k == 0 or self.trainer.is_last_batch
        # Some exchange with each backward, some once for the group.
        with self.trainer.strategy.gradient_sync(enabled=closes or self.program.seed % 2 == 0):
            self.manual_backward(loss / k)
        if closes:
            if self.program.clip != "none":
                self.clip_gradients(optimizer, **self.clipping())
            optimizer.step()
            optimizer.zero_grad()

    def clipping(self) -> dict[str, Any]:
        return {"gradient_clip_val": 0.05, "gradient_clip_algorithm": self.program.clip}

    def on_train_epoch_start(self) -> None:
        if self.program.model == "thawed":
            self.requires_grad_(True)

    def on_train_batch_start(self) -> None:
        if self.program.model == "frozen" and self.trainer.global_step == 3:
            self.middle.requires_grad_(True)
            self.outer.requires_grad_(False)
        if self.program.model == "added" and self.trainer.global_step == 2 and self.added is None:
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(self.global_rank)
                self.added = nn.Linear(FEATURES, FEATURES).to(self.program.dtype)
            self.trainer.optimizers[0].add_param_group({"params": list(self.added.parameters())})

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        x, y = batch
        self.log("val/loss", nn.functional.mse_loss(self(x), y))
        self.log("val/worst", (self(x) - y).abs().max(), reduce_fx="max")

    def predict_step(self, batch: Any, batch_idx: int) -> Any:
        return {"y": self(batch[0]), "samples": len(batch[0])}

    def configure_optimizers(self) -> Any:
        lr = 0.05
        optimizer: torch.optim.Optimizer = {
            "sgd": lambda: torch.optim.SGD(self.parameters(), lr=lr),
            "momentum": lambda: torch.optim.SGD(self.parameters(), lr=lr, momentum=0.9, nesterov=True),
            "adamw": lambda: torch.optim.AdamW(self.parameters(), lr=lr, eps=1e-3),
            "rmsprop": lambda: torch.optim.RMSprop(self.parameters(), lr=lr, eps=1e-3),
        }[self.program.optimizer]()
        schedules = torch.optim.lr_scheduler
        if self.program.schedule == "none":
            return optimizer
        if self.program.schedule == "plateau":
            plateau = schedules.ReduceLROnPlateau(optimizer, patience=0, threshold=0.1)
            return {"optimizer": optimizer, "lr_scheduler": {"scheduler": plateau, "monitor": "val/loss"}}
        interval = self.program.schedule.removeprefix("by ")
        return [optimizer], [{"scheduler": schedules.StepLR(optimizer, 2, 0.7), "interval": interval}]


class GlobalBatches(Sampler[list[int]]):
    """The batches of all ranks, joined: what one process has to train on."""

    def __init__(self, program: Program, world_size: int) -> None:
        self.size = GLOBAL_BATCH // world_size
        self.own_batches = program.sampler == "own batches"
        tail: Any = "drop" if program.drops_last and not self.own_batches else "pad"
        self.drops_last = program.drops_last
        self.parts = [
            ShardedSampler(
                Batches(program, self.size) if self.own_batches else make_sampler(program, rank=0),
                rank,
                world_size,
                tail,
                program.seed,
            )
            for rank in range(world_size)
        ]

    def __iter__(self) -> Iterator[list[int]]:
        for batches in zip(*map(self._batches, self.parts), strict=True):
            yield [index for batch in batches for index in batch]

    def _batches(self, part: ShardedSampler) -> list[list[int]]:
        indices = list(part)
        if self.own_batches:
            return indices
        batches = [indices[first : first + self.size] for first in range(0, len(indices), self.size)]
        return [batch for batch in batches if len(batch) == self.size or not self.drops_last]

    def __len__(self) -> int:
        part = self.parts[0]
        if self.own_batches:
            return len(part)
        return len(part) // self.size if self.drops_last else -(-len(part) // self.size)

    def set_epoch(self, epoch: int) -> None:
        for part in self.parts:
            part.set_epoch(epoch)


class Batches(Sampler[list[int]]):
    """Batches of a user's own, all of one size, so that each weighs the same."""

    def __init__(self, program: Program, size: int) -> None:
        self.batches = max(1, program.samples // size)
        self.size, self.samples = size, program.samples

    def __iter__(self) -> Iterator[list[int]]:
        order = torch.randperm(self.batches * self.size) % self.samples
        return iter(order.view(-1, self.size).tolist())

    def __len__(self) -> int:
        return self.batches


def make_sampler(program: Program, rank: int) -> Any:
    rows = range(program.samples)
    # Seeded otherwise on each rank, of which rank 0's counts.
    generator = torch.Generator().manual_seed(program.seed + 100 * rank)
    if program.sampler == "generator":
        return RandomSampler(rows, generator=generator)
    if program.sampler == "weighted":
        return WeightedRandomSampler([1.0 + index for index in rows], program.samples, generator=generator)
    return RandomSampler(rows) if program.sampler in ("shuffled", "tensors") else SequentialSampler(rows)


def make_data(program: Program, samples: int, seed: int) -> TensorDataset:
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(samples, FEATURES, generator=generator, dtype=torch.float64)
    y = torch.randn(samples, CLASSES, generator=generator, dtype=torch.float64)
    return TensorDataset(x.to(program.dtype), y.to(program.dtype))


def train_loader(program: Program, rank: int, world_size: int) -> Any:
    data, size = make_data(program, program.samples, 1), GLOBAL_BATCH // world_size
    if program.sampler == "own batches":
        return DataLoader(data, batch_sampler=Batches(program, size))
    if program.sampler == "tensors":
        return TensorLoader(*data.tensors, batch_size=size, shuffle=True, drop_last=program.drops_last)
    return DataLoader(data, batch_size=size, sampler=make_sampler(program, rank), drop_last=program.drops_last)


def make_strategy(name: str, world_size: int) -> Strategy:
    """Return the strategy ``name``: ddp, fsdp (all that is no list is a unit), fsdp-root (no unit), hsdp (copies)."""
    if name == "ddp":
        return DDP(timeout_s=60)
    if name == "fsdp-root":
        return FSDP(timeout_s=60, wrap_policy=lambda module: False)
    return FSDP(
        timeout_s=60,
        wrap_policy=lambda module: isinstance(module, nn.Linear | nn.LayerNorm | nn.Embedding),
        mesh=(world_size, 1) if name == "hsdp" else None,
    )


def run(program: Program, rank: int, world_size: int, joined: int = 0, strategy: str = "ddp") -> dict[str, Any]:
    """Train and predict; return what came out.

    Args:
        program: What to run.
        rank: This process.
        world_size: How many there are.
        joined: In one process: how many ranks' batches each of its batches joins.
        strategy: With which strategy.
    """
    seed_everything(program.seed)
    module = Net(program)
    trainer = Trainer(
        accelerator="cpu",
        strategy=make_strategy(strategy, world_size),
        precision=program.precision,
        max_steps=STEPS,
        max_epochs=20,
        num_sanity_val_steps=0,
        log_every_n_steps=1,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        **({} if program.is_manual else {"accumulate_grad_batches": program.accumulate}),
        **({} if program.is_manual or program.clip == "none" else module.clipping()),
    )
    if joined:
        train: Any = DataLoader(make_data(program, program.samples, 1), batch_sampler=GlobalBatches(program, joined))
    else:
        train = train_loader(program, rank, world_size)
    ranks = joined or world_size
    val = DataLoader(make_data(program, program.evaluated, 2), batch_size=GLOBAL_BATCH // world_size)
    unseen = make_data(program, program.evaluated, 3)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        trainer.fit(module, train, val)
        trained = {
            "global_step": trainer.global_step,
            "weights": {name: whole(each.detach()).clone() for name, each in module.state_dict().items()},
            "lr": [float(group["lr"]) for group in trainer.optimizers[0].param_groups],
            "logged": {name: float(value) for name, value in trainer.callback_metrics.items()},
        }
        # Batches of the size that a rank has: predictions keep it.
        predicted = trainer.predict(module, DataLoader(unseen, batch_size=GLOBAL_BATCH // ranks))
    return trained | {"predicted": predicted}


def reference(program: Program, ranks: int) -> dict[str, Any]:
    """Return what one process makes of the batches of ``ranks`` ranks, joined."""
    return run(program, 0, 1, joined=ranks)
