"""What ranks agree on: ``agreeing_ranks.py FOLDER`` on each of them writes ``FOLDER/rank_N.pt``."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import torch
from torch import distributed as dist
from torch.utils.data import DataLoader

from tests.strategies.odd_ranks import loader
from trainkit import Trainer
from trainkit.callbacks import Timer
from trainkit.errors import RankError
from trainkit.strategies.ranks import rank_group
from trainkit.testing import TinyModule

RANK = int(os.environ.get("RANK", 0))


def make_trainer(**arguments: Any) -> Trainer:
    options: dict[str, Any] = {"max_epochs": 2, "enable_checkpointing": False, **arguments}
    return Trainer(
        accelerator="cpu",
        strategy="ddp",
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        **options,
    )


class Evaluated(TinyModule):
    """Can be given several loaders."""

    def test_step(self, batch: Any, batch_idx: int, dataloader_idx: int = 0) -> None:
        self.log("test/loss", self.loss(batch))


class Searching(TinyModule):
    """Updates by a line search, which looks at the loss."""

    def configure_optimizers(self) -> Any:
        return torch.optim.LBFGS(self.parameters(), lr=1, max_iter=4, line_search_fn="strong_wolfe")


class SearchingItself(Searching):
    """Does so with manual optimization."""

    automatic_optimization = False

    def training_step(self, batch: Any, batch_idx: int) -> None:
        optimizer = self.optimizers()

        def closure() -> Any:
            optimizer.zero_grad()
            loss = self.loss(batch)
            self.manual_backward(loss)
            return loss

        optimizer.step(closure)


class StopsAlone:
    """Asks for an end on the last rank, in batch 3."""

    def on_train_batch_end(self, trainer: Trainer) -> None:
        if trainer.global_rank == 1 and trainer.progress.total_batches == 4:
            trainer.should_stop = True


class Counting:
    """Counts what is exchanged from the end of one batch to the end of the next, and at the end of the epoch."""

    def __init__(self) -> None:
        self.exchanges: list[str] = []
        self.of_batches: list[list[str]] = []

    def on_train_batch_end(self) -> None:
        self.of_batches.append(list(self.exchanges))
        self.exchanges.clear()


def evaluate_all_sizes() -> dict[int, Any]:
    """Validate and predict fewer samples than ranks, as many, and more, of which ranks have different numbers."""
    trainer, module = make_trainer(), Evaluated()
    return {
        samples: (
            trainer.validate(module, loader(samples), verbose=False),
            trainer.test(module, [loader(samples), loader(9)], verbose=False),
            len(trainer.predict(module, loader(samples)) or []),
        )
        for samples in range(1, 10)
    }


def save_around_a_fit(folder: Path) -> tuple[int, list[int]]:
    trainer = make_trainer()
    trainer.strategy.barrier()
    trainer.fit(TinyModule(), loader(16), loader(9))
    trainer.save_checkpoint(folder / "after.ckpt")
    return trainer.global_step, trainer.strategy.all_gather_object(RANK)


def fit(module: TinyModule, **arguments: Any) -> tuple[int, dict[str, Any]]:
    trainer = make_trainer(**arguments)
    trainer.fit(module, loader(24), loader(9))
    return trainer.global_step, dict(module.state_dict())


def refused(train: DataLoader[Any] | list[Any] | None = None, **arguments: Any) -> str:
    try:
        make_trainer(**arguments).fit(TinyModule(), train or loader(24))
    except RankError as error:
        return str(error)
    return "was not refused"


def count() -> list[list[str]]:
    """Return what trainkit, or anybody, exchanged in each batch, but for the gradients that torch itself does."""
    counting = Counting()
    exchange = rank_group.RankGroup._exchange

    def counted(self: Any, label: str, *arguments: Any) -> Any:
        counting.exchanges.append(label)
        return exchange(self, label, *arguments)

    rank_group.RankGroup._exchange = counted  # type: ignore[method-assign]
    collectives = ("all_reduce", "all_gather", "broadcast", "all_gather_object", "broadcast_object_list", "barrier")
    before = {name: getattr(dist, name) for name in collectives}
    for name, function in before.items():
        setattr(dist, name, lambda *args, f=function, n=name, **kw: (counting.exchanges.append(n), f(*args, **kw))[1])
    try:
        make_trainer(callbacks=[counting], max_epochs=1).fit(TinyModule(), loader(24), loader(9))
    finally:
        rank_group.RankGroup._exchange = exchange  # type: ignore[method-assign]
        for name, function in before.items():
            setattr(dist, name, function)
    return counting.of_batches[1:]


def main(folder: Path) -> None:
    results = {
        "sizes": evaluate_all_sizes(),
        "around a fit": save_around_a_fit(folder),
        "stopped": fit(TinyModule(), callbacks=[StopsAlone()]),
        "searched": fit(Searching()),
        "searched by hand": fit(SearchingItself()),
        "settings": refused(max_epochs=2 + RANK),
        "plugins": refused(callbacks=[Timer()] * RANK),
        "lengths": refused(train=list(loader(8 + 4 * RANK))),
        "after errors": fit(TinyModule()),
        "exchanged": count(),
        "time": fit(TinyModule(), max_epochs=-1, max_time={"seconds": 0.5}),
    }
    torch.save(results, folder / f"rank_{RANK}.pt")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
