"""Stop a run at every place where it can be stopped, continue from each, and compare with the run that never stopped.

One unbroken run of 60 batches saves a checkpoint after every training batch, after every validation batch and at every
epoch's end: at 87 places. From each of them a run in a fresh state goes on, and has to be equal bit for bit:
parameters, optimizer, scheduler, metrics, random numbers of every generator, the position in the data; the samples in
their order; and every row that was logged. Run with::

    python -m scripts.sweep_resume [--every N] [--only KIND ...] [--workers N ...] [--accumulate N ...]
"""

from __future__ import annotations

import argparse
import itertools
import random
import tempfile
import time
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import (
    BatchSampler,
    DataLoader,
    Dataset,
    IterableDataset,
    Subset,
    WeightedRandomSampler,
    get_worker_info,
)

import trainkit
from trainkit.checkpoint.diff import differences
from trainkit.data import TensorLoader
from trainkit.testing import quiet_trainer
from trainkit.testing.first_divergence import comparable

SAMPLES, BATCH_SIZE, EPOCHS = 58, 3, 3
"""Twenty batches in an epoch, the last of them short; three epochs."""

WORKERS = (0, 2)
ACCUMULATE = (1, 3)


def sample(index: int) -> tuple[Tensor, int]:
    """Return a sample that is augmented with random numbers from every generator, and its index."""
    noise = torch.rand(4) + random.random() + float(np.random.rand())
    return torch.full((4,), index / SAMPLES) + noise, index


ROWS = (torch.arange(SAMPLES * 4).reshape(SAMPLES, 4) / SAMPLES, torch.arange(SAMPLES))
"""The samples in memory, as they are before they are augmented."""


class Samples(Dataset[tuple[Tensor, int]]):
    """A map-style dataset."""

    def __len__(self) -> int:
        return SAMPLES

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        return sample(index)


class Stream(IterableDataset[tuple[Tensor, int]]):
    """An iterable dataset, dealt to workers."""

    def __iter__(self) -> Iterator[tuple[Tensor, int]]:
        worker = get_worker_info()
        first, step = (0, 1) if worker is None else (worker.id, worker.num_workers)
        return map(sample, range(first, SAMPLES, step))


class Buckets(BatchSampler):
    """A batch sampler of the user's own: batches of neighbours, in random order, of changing size."""

    def __init__(self) -> None:
        super().__init__(range(SAMPLES), BATCH_SIZE, drop_last=False)

    def __iter__(self) -> Iterator[list[int]]:
        cuts = sorted(random.sample(range(1, SAMPLES), len(self) - 1))
        batches = [list(range(first, end)) for first, end in itertools.pairwise([0, *cuts, SAMPLES])]
        random.shuffle(batches)
        return iter(batches)

    def __len__(self) -> int:
        return 20


class Stateful:
    """A loader that keeps its own position, and shuffles with a generator of its own. It has no workers."""

    def __init__(self) -> None:
        self.order: list[int] = []
        self.given = 0
        self.generator = np.random.default_rng(5)

    def __len__(self) -> int:
        return -(-SAMPLES // BATCH_SIZE)

    def __iter__(self) -> Iterator[list[Tensor]]:
        if not self.order:
            self.order, self.given = self.generator.permutation(SAMPLES).tolist(), 0
        while self.order:
            first = self.given * BATCH_SIZE
            samples = [sample(index) for index in self.order[first : first + BATCH_SIZE]]
            self.given += 1
            if self.given == len(self):
                self.order = []
            yield [torch.stack([x for x, _ in samples]), torch.tensor([index for _, index in samples])]

    def state_dict(self) -> dict[str, Any]:
        return {"order": list(self.order), "given": self.given, "generator": self.generator.bit_generator.state}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.order, self.given = list(state["order"]), state["given"]
        self.generator.bit_generator.state = state["generator"]


def make_loader(kind: str, workers: int) -> Any:
    """Return the training loader of a kind, in the state in which a new process would have it."""
    options: dict[str, Any] = {"num_workers": workers}
    sized: dict[str, Any] = {"batch_size": BATCH_SIZE, **options}
    generator = torch.Generator().manual_seed(11)
    weighted = WeightedRandomSampler([1.0 + index for index in range(SAMPLES)], SAMPLES, generator=generator)
    makers = {
        "map": lambda: DataLoader(Samples(), shuffle=True, **sized),
        "batch_sampler": lambda: DataLoader(Samples(), batch_sampler=Buckets(), **options),
        "iterable": lambda: DataLoader(Stream(), **sized),
        "stateful": Stateful,
        "generator": lambda: DataLoader(Samples(), shuffle=True, generator=generator, **sized),
        "weighted": lambda: DataLoader(Samples(), sampler=weighted, **sized),
        "persistent": lambda: DataLoader(Samples(), shuffle=True, persistent_workers=workers > 0, **sized),
        "tensors": lambda: TensorLoader(*ROWS, batch_size=BATCH_SIZE, shuffle=True, generator=generator),
        "several": lambda: [make_loader("map", workers), make_loader("generator", 0)],
        "reloaded": lambda: None,  # the module makes them, for each epoch anew
    }
    return makers[kind]()


KINDS = (
    "map",
    "batch_sampler",
    "iterable",
    "stateful",
    "generator",
    "weighted",
    "persistent",
    "tensors",
    "several",
    "reloaded",
)


def draw(module: trainkit.TrainModule) -> None:
    """Draw from every generator."""
    torch.rand(1), random.random(), np.random.rand()


class Noisy(trainkit.TrainModule):
    """Draws random numbers in every step and every hook, has buffers, and logs in every way there is."""

    on_fit_start = on_train_start = on_train_epoch_start = on_validation_start = on_validation_epoch_start = draw
    on_train_epoch_end = on_validation_end = draw

    def __init__(self, workers: int = 0) -> None:
        super().__init__()
        self.workers = workers
        self.net = nn.Sequential(nn.Linear(4, 6), nn.BatchNorm1d(6, momentum=0.3), nn.Dropout(0.4), nn.Linear(6, 2))
        self.seen: list[list[int]] = []

    def train_dataloader(self) -> Any:
        samples = Subset(Samples(), range(SAMPLES - 2 * BATCH_SIZE * self.current_epoch))
        return DataLoader(samples, BATCH_SIZE, shuffle=True, num_workers=self.workers)

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        batches = [batch] if isinstance(batch[0], Tensor) else batch
        self.seen.append([int(index) for _, indices in batches for index in indices])
        x = torch.cat([x for x, _ in batches])
        # BatchNorm needs two samples.
        out = self.net(torch.cat([x, x.flip(-1)]))
        loss = out.square().mean() + self.net[0].weight.norm()
        self.log("train/loss", loss, on_step=True, on_epoch=True)
        self.log("train/largest", out.max(), reduce_fx="max", on_epoch=True, on_step=False)
        return loss

    def validation_step(self, batch: Tensor, batch_idx: int, dataloader_idx: int = 0) -> None:
        self.log("val/loss", self.net(batch + torch.rand(4)).square().mean())

    def configure_optimizers(self) -> Any:
        optimizer = torch.optim.AdamW(self.parameters(), lr=0.01)
        schedule = torch.optim.lr_scheduler.CosineAnnealingWarmRestarts(optimizer, 5)
        plateau = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, factor=0.7, patience=0)
        return [optimizer], [
            {"scheduler": schedule, "interval": "step"},
            {"scheduler": plateau, "monitor": "val/loss/dataloader_idx_0"},
        ]


@dataclass
class Rows:
    """Writes down every row of metrics, and how many there were at each checkpoint."""

    rows: list[dict[str, float]] = field(default_factory=list)

    def on_log(self, metrics: dict[str, float], step: int) -> None:
        self.rows.append({"step": step, **metrics})


class SaveEverywhere:
    """Saves at every place where a run can be stopped.

    Attributes:
        stops: For each checkpoint how many batches had been seen and how many rows logged.
    """

    stage = "persist"

    def __init__(self, folder: Path, rows: Rows, every: int) -> None:
        self.folder = folder
        self.rows = rows
        self.every = every
        self.stops: dict[Path, tuple[int, int]] = {}
        self._places = 0

    def on_train_batch_end(self, trainer: Any, module: Any) -> None:
        self._save(trainer, module, "train")

    def on_validation_batch_end(self, trainer: Any, module: Any) -> None:
        self._save(trainer, module, "validation")

    def on_train_epoch_end(self, trainer: Any, module: Any) -> None:
        self._save(trainer, module, "epoch-end")

    def _save(self, trainer: Any, module: Any, place: str) -> None:
        self._places += 1
        if self._places % self.every == 0:
            path = self.folder / f"{self._places:03d}-{place}.ckpt"
            trainer.save_checkpoint(path)
            self.stops[path] = len(module.seen), len(self.rows.rows)


@dataclass
class Outcome:
    """Everything that two runs have in common if they are the same run."""

    state: dict[str, Any]
    seen: list[list[int]]
    rows: list[dict[str, float]]


@dataclass
class Case:
    """What is swept over."""

    kind: str
    workers: int = 0
    accumulate: int = 1
    module: type[Noisy] = Noisy

    def __str__(self) -> str:
        return f"{self.kind:14} workers={self.workers} accumulate={self.accumulate}"


def run(case: Case, *, seed: int, ckpt_path: Path | None = None, save: SaveEverywhere | None = None) -> Outcome:
    """Train, from the beginning or from a checkpoint."""
    trainkit.seed_everything(seed)
    rows = save.rows if save is not None else Rows()
    module = case.module(case.workers)
    trainer = quiet_trainer(
        max_epochs=EPOCHS,
        accumulate_grad_batches=case.accumulate,
        val_check_interval=7,
        log_every_n_steps=2,
        reload_dataloaders_every_n_epochs=int(case.kind == "reloaded"),
        callbacks=[rows, *([save] if save is not None else [])],
    )
    val = [[torch.full((2, 4), float(i)) for i in range(3)], [torch.ones(2, 4)]]
    loaders = [DataLoader(torch.stack(batches).flatten(0, 1), batch_size=2) for batches in val]  # type: ignore[arg-type]
    trainer.fit(module, make_loader(case.kind, case.workers), loaders, ckpt_path=ckpt_path)
    return Outcome(comparable(trainer.dump_checkpoint()), module.seen, rows.rows)


def sweep(case: Case, folder: Path, every: int = 1) -> Iterator[tuple[str, str]]:
    """Yield each place at which a run was stopped, and what differs; nothing does where the second is empty."""
    folder.mkdir(parents=True, exist_ok=True)
    save = SaveEverywhere(folder, Rows(), every)
    whole = run(case, seed=1, save=save)
    for path, (batches, rows) in save.stops.items():
        resumed = run(case, seed=2, ckpt_path=path)
        yield path.stem, difference(resumed, Outcome(whole.state, whole.seen[batches:], whole.rows[rows:]))
        path.unlink()


def difference(actual: Outcome, expected: Outcome) -> str:
    """Return what differs first, in the order in which it shows; nothing if the two are equal."""
    for what in ("seen", "rows", "state"):
        for difference in differences(getattr(actual, what), getattr(expected, what), what):
            return str(difference)
    return ""


def main() -> None:
    """Sweep over everything that was asked for, and fail if anything differs."""
    parser = argparse.ArgumentParser(description="stop a run everywhere, continue, and compare")
    parser.add_argument("--every", type=int, default=1, help="use every n-th place only")
    parser.add_argument("--only", choices=KINDS, nargs="*", default=KINDS, help="kinds of loaders")
    parser.add_argument("--workers", type=int, nargs="*", default=WORKERS)
    parser.add_argument("--accumulate", type=int, nargs="*", default=ACCUMULATE)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    warnings.filterwarnings("ignore", message=".*(are loaded and thrown away|in turn with|nothing is left)")
    stops = failures = 0
    for case in itertools.starmap(Case, itertools.product(arguments.only, arguments.workers, arguments.accumulate)):
        started = time.monotonic()
        with tempfile.TemporaryDirectory() as folder:
            results = dict(sweep(case, Path(folder), arguments.every))
        bad = {place: what for place, what in results.items() if what}
        stops += len(results)
        failures += len(bad)
        verdict = "equal" if not bad else f"{len(bad)} DIFFER, first at {next(iter(bad.items()))}"
        print(f"{case}  {len(results):3} stops  {time.monotonic() - started:5.1f} s  {verdict}", flush=True)
    print(f"{stops} stops, {failures or 'none'} different")
    raise SystemExit(failures > 0)


if __name__ == "__main__":
    main()
