"""Whether ranks train on the same samples, because their loader is one that nobody has dealt to them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from torch.utils.data import DataLoader

from trainkit.data.combined import CombinedLoader
from trainkit.data.resume.content import checksum
from trainkit.data.sampler import is_dealt
from trainkit.loops.run import FitRun
from trainkit.output import warn
from trainkit.types import Batch, Phase


def watch_first_batch(run: FitRun, loader: Any) -> None:
    """Warn, at the first training batch, if ranks have got the same one of a ``loader`` that is not dealt."""
    if not run.strategy.is_distributed or not (kinds := sorted(set(_not_dealt(loader)))):
        return
    transfer, is_over = run.transfer, False

    def watched(batch: Batch, dataloader_idx: int) -> Batch:
        nonlocal is_over
        if run.phase is Phase.TRAIN and not is_over:
            is_over = True
            run.transfer = transfer
            _warn_if_same(run, batch, kinds)
        return transfer(batch, dataloader_idx)

    run.transfer = watched


def _warn_if_same(run: FitRun, batch: Batch, kinds: list[str]) -> None:
    first, *others = run.strategy.one_of_each_data(run.strategy.all_gather_object(checksum(batch)))
    same = [str(rank) for rank, other in enumerate(others, 1) if other == first]
    if same and run.strategy.is_global_zero:
        warn(
            f"train_dataloader gives rank 0 and rank {', '.join(same)} the same first batch: of {' and '.join(kinds)} "
            "nothing is dealt to the ranks, so all of them train on the same samples. Wrap an iterable in "
            "trainkit.data.ShardedIterable, and make a DataLoader or a TensorLoader of what is in memory. If each is "
            "to have all, say Trainer(use_distributed_sampler=False)."
        )


def _not_dealt(loader: Any) -> Iterator[str]:
    """Give the kinds of loaders in ``loader`` of which each rank is given all."""
    if isinstance(loader, CombinedLoader):
        for inner in loader.flattened:
            yield from _not_dealt(inner)
    elif not is_dealt(loader):
        yield type(loader.dataset if isinstance(loader, DataLoader) else loader).__name__
