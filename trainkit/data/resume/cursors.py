"""Continuing in the middle of an epoch: each loader gives the batches that an uninterrupted run would have had.

A `Cursor` stands for one loader. How it finds its place depends on what the loader is:

====================================  ==================  ==============================================================
DataLoader over a map-style dataset   `IndexCursor`       its samplers run again from the random numbers with which the
                                                          epoch began; the first *k* batches are dropped **as indices**,
                                                          and nothing is loaded
TensorLoader                          `TensorCursor`      the order is drawn again from the same random numbers, and the
                                                          loader begins at batch *k* of it
loader with ``state_dict``            `StatefulCursor`    the loader is asked for its state, and given it back
anything else                         `ReplayCursor`      *k* batches are loaded and thrown away, with a warning
====================================  ==================  ==============================================================

Finding the place draws no random number that training would see. ``docs/design/0003-exact-resume.md`` tells why this is
exact.
"""

from __future__ import annotations

from typing import Any

from trainkit.data.combined import is_sliceable
from trainkit.data.dataloader_copy import is_map_style
from trainkit.data.resume.cursor import Cursor
from trainkit.data.resume.index_cursor import IndexCursor
from trainkit.data.resume.replay_cursor import ReplayCursor
from trainkit.data.resume.stateful_cursor import StatefulCursor, has_state
from trainkit.data.resume.tensor_cursor import TensorCursor
from trainkit.data.tensors import TensorLoader


def make_cursor(loader: Any, name: str) -> Cursor:
    """Return a cursor of the kind that fits ``loader``.

    Args:
        loader: Any loader but a `CombinedLoader`, each of whose loaders has a cursor of its own.
        name: What errors call the loader.
    """
    # Asked first: torchdata's StatefulDataLoader is a DataLoader too, and knows its place better than we do.
    if has_state(loader):
        return StatefulCursor(loader, name)
    if isinstance(loader, TensorLoader):
        return TensorCursor(loader, name)
    if is_map_style(loader):
        return IndexCursor(loader, name)
    return ReplayCursor(loader, name)


def are_replayed_together(cursors: list[Cursor]) -> bool:
    """Return whether the loaders of a `CombinedLoader` find their places only by all starting the epoch again.

    Loaders that are replayed draw from the global generators whenever a batch is made, alternating with each other. So
    replaying them one by one would give each of them other random numbers.
    """
    replays = any(isinstance(each, ReplayCursor) and not is_sliceable(each.loader) for each in cursors)
    # A loader with a state of its own is not started again: its place comes from its state.
    return len(cursors) > 1 and replays and not any(isinstance(each, StatefulCursor) for each in cursors)
