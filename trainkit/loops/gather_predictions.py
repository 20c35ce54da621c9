"""The predictions of all ranks as one list, in the order in which one process would have made them."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain, zip_longest
from typing import Any

from trainkit.batch.nested import map_tensors
from trainkit.data.loaders import LimitedLoader
from trainkit.strategies.base import Strategy

_NOTHING = object()


def gather_predictions(
    strategy: Strategy, predictions: Sequence[list[Any]], loaders: Sequence[LimitedLoader]
) -> list[list[Any]]:
    """Return the predictions of all ranks, one list per loader. Every rank has to call this, and gets all of them.

    Batches are dealt to the ranks in turn, so their turns give the order. Predictions are sent by pickle, from the CPU.

    Args:
        strategy: Which ranks there are.
        predictions: What ``predict_step`` returned on this rank, one list per loader.
        loaders: The loaders. Of one that every rank has gone through as a whole, such as a list of batches, the
            predictions of this rank are all there are.
    """
    if not strategy.is_distributed:
        return list(predictions)
    gathered = []
    for own, loader in zip(predictions, loaders, strict=True):
        sent = [map_tensors(lambda tensor: tensor.detach().cpu(), each) for each in own]
        ranks = strategy.one_of_each_data(strategy.all_gather_object(sent))
        turns = chain.from_iterable(zip_longest(*ranks, fillvalue=_NOTHING))
        is_whole = isinstance(loader.loader, Sequence)
        gathered.append(own if is_whole else [each for each in turns if each is not _NOTHING])
    return gathered
