"""Several loaders iterated as one, and what counts as a loader."""

from __future__ import annotations

import copy
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Set
from itertools import zip_longest
from typing import Any, Literal, Self, TypeGuard, get_args

from torch.utils.data import DataLoader, IterableDataset

from trainkit.checks import one_of
from trainkit.data.tensors import TensorLoader
from trainkit.errors import DataError
from trainkit.types import Batch

Mode = Literal["min_size", "max_size", "max_size_cycle", "sequential"]


class CombinedLoader:
    """Iterates several loaders at once, or one after the other.

    With ``min_size``, ``max_size`` and ``max_size_cycle`` a batch has the shape of ``iterables``, with a batch in place
    of each loader: ``CombinedLoader({"a": x, "b": y})`` gives ``{"a": batch_of_x, "b": batch_of_y}``. ``min_size`` ends
    with the shortest loader. The other two end with the longest; a shorter loader gives None from its end on with
    ``max_size``, and starts again with ``max_size_cycle``. ``sequential`` gives the batches of one loader after the
    other.

    Iterating gives ``(batch, batch_idx, dataloader_idx)``, as in Lightning; `batches` gives the batches alone, which is
    what ``training_step`` receives.

    Args:
        iterables: Lists, tuples and dicts, nested at will, of loaders (any iterables of batches).
        mode: How they are combined.

    Attributes:
        flattened: The loaders, in order.

    Raises:
        UnknownNameError: If there is no such mode.
        DataError: If there is no loader, or something that cannot be iterated over.
    """

    def __init__(self, iterables: Any, mode: Mode = "min_size") -> None:
        one_of("mode", mode, get_args(Mode), "CombinedLoader(mode=...)")
        self.iterables = iterables
        self.mode = mode
        self.flattened: list[Any] = []
        self._structure = self._flatten(iterables, top=True)
        if not self.flattened:
            raise DataError(f"CombinedLoader needs at least one loader; it got {iterables!r}.")

    def __iter__(self) -> Iterator[tuple[Batch, int, int]]:
        return self._give([False] * len(self.flattened))

    def _give(self, has_ended: list[bool]) -> Iterator[tuple[Batch, int, int]]:
        if self.mode == "sequential":
            for dataloader_idx, loader in enumerate(self.flattened):
                for batch_idx, batch in enumerate(batches_of(loader)):
                    yield batch, batch_idx, dataloader_idx
        else:
            together = _TOGETHER[self.mode]
            for batch_idx, batches in enumerate(together(self.flattened, has_ended)):
                yield _nest(self._structure, batches), batch_idx, 0

    def __len__(self) -> int:
        lengths = [len(loader) for loader in self.flattened]
        if self.mode == "sequential":
            return sum(lengths)
        return min(lengths) if self.mode == "min_size" else max(lengths)

    def batches(self, has_ended: Iterable[bool] = ()) -> Iterator[Batch]:
        """Iterate over the batches alone.

        Args:
            has_ended: In a pass that is continued, for each loader whether it has come to its end before; by default
                none has.
        """
        return (batch for batch, _, _ in self._give(list(has_ended) or [False] * len(self.flattened)))

    def goes_on(self, have_more: Sequence[bool], were_restarted: Sequence[bool]) -> bool:
        """Return whether there is another batch.

        Args:
            have_more: For each loader whether it has another batch.
            were_restarted: For each loader whether it has ended before, and was started again.
        """
        if self.mode == "min_size":
            return all(have_more)
        return any(more and not restarted for more, restarted in zip(have_more, were_restarted, strict=True))

    def map(self, function: Callable[[Any], Any]) -> Self:
        """Return a copy in which every loader is replaced by what ``function`` returns for it."""
        clone = copy.copy(self)
        clone.flattened = [function(loader) for loader in self.flattened]
        clone.iterables = _nest(self._structure, clone.flattened)
        return clone

    def _flatten(self, given: Any, *, top: bool = False) -> Any:
        """Collect the loaders in ``given``; return its structure, with the index of each loader in place of it."""
        # At the top a list is a list of loaders. Further down, one that holds no loader is an iterable of batches.
        if is_nest(given) and (top or holds_loader(given)):
            if isinstance(given, dict):
                return {key: self._flatten(item) for key, item in given.items()}
            return (list if isinstance(given, list) else tuple)(self._flatten(item) for item in given)
        if not hasattr(given, "__iter__") and not hasattr(given, "__getitem__"):
            raise DataError(f"CombinedLoader got a {type(given).__name__} ({given!r}), which cannot be iterated over.")
        self.flattened.append(given)
        return len(self.flattened) - 1


LOADERS = (DataLoader, TensorLoader, IterableDataset, CombinedLoader)
"""The loaders that are known by their class."""


def is_loader(given: Any) -> bool:
    """Whether ``given`` counts as a loader where it might also be a batch: it can be iterated over, and is no value.

    Values that can be iterated over are containers, arrays, text, and what can be moved to a device, such as a graph.
    """
    if isinstance(given, LOADERS):
        return True
    is_value = isinstance(given, Mapping | Set | str | bytes | type) or is_nest(given)
    return hasattr(given, "__iter__") and not (is_value or hasattr(given, "__array__") or hasattr(given, "to"))


def is_nest(given: Any) -> bool:
    """Whether ``given`` is a list, tuple or dict of items, and not of a class that iterates in its own way."""
    return isinstance(given, list | tuple | dict) and type(given).__iter__ in _PLAIN


_PLAIN = (list.__iter__, tuple.__iter__, dict.__iter__, OrderedDict.__iter__)


def loaders_in(given: Any, *, top: bool = True) -> Iterator[Any]:
    """Iterate over the loaders in ``given``, in the order of `CombinedLoader.flattened`."""
    if is_nest(given) and (top or holds_loader(given)):
        for item in given.values() if isinstance(given, dict) else given:
            yield from loaders_in(item, top=False)
    else:
        yield given


def leaves(given: Any) -> Iterator[Any]:
    """Iterate over what lists, tuples and dicts hold, at any depth."""
    if is_nest(given):
        for item in given.values() if isinstance(given, dict) else given:
            yield from leaves(item)
    else:
        yield given


def holds_loader(given: Any) -> bool:
    """Return whether there is a loader among the leaves of ``given``."""
    return any(map(is_loader, leaves(given)))


def is_sliceable(loader: Any) -> TypeGuard[Sequence[Batch]]:
    """Return whether ``loader`` is a list or tuple that can be sliced instead of iterated over from its start."""
    # Not a subclass with an __iter__ of its own, which may do more than give the items.
    return isinstance(loader, list | tuple) and type(loader).__iter__ in (list.__iter__, tuple.__iter__)


def batches_of(loader: Any) -> Iterable[Batch]:
    """Return what to iterate over to get the batches of any loader."""
    # A CombinedLoader itself gives (batch, batch_idx, dataloader_idx).
    return loader.batches() if isinstance(loader, CombinedLoader) else loader


def _min_size(loaders: list[Any], has_ended: list[bool]) -> Iterator[list[Batch]]:
    return map(list, zip(*map(batches_of, loaders), strict=False))


def _max_size(loaders: list[Any], has_ended: list[bool]) -> Iterator[list[Batch]]:
    return map(list, zip_longest(*map(batches_of, loaders)))


def _max_size_cycle(loaders: list[Any], has_ended: list[bool]) -> Iterator[list[Batch]]:
    iterators = [iter(batches_of(loader)) for loader in loaders]
    # Not itertools.cycle, which would keep every batch and give the same ones again without shuffling.
    while True:
        batches: list[Batch] = []
        for index, loader in enumerate(loaders):
            batch = next(iterators[index], _NOTHING)
            if batch is _NOTHING:
                has_ended[index] = True
                # This was the longest, so its end is the end. Batches that the others gave in this round are lost.
                if all(has_ended):
                    return
                iterators[index] = iter(batches_of(loader))
                batch = next(iterators[index], _NOTHING)
            batches.append(batch)
        # Only now: what can be iterated over once need not be started anew where all others end in this round too.
        empty = next((index for index, batch in enumerate(batches) if batch is _NOTHING), None)
        if empty is not None:
            raise DataError(
                f"loader {empty} of a CombinedLoader gave no batch when it was started anew, as others have more.\n"
                "    to do        pass what starts anew at every iter() (a list, a DataLoader), or CombinedLoader(..., "
                "'min_size')"
            )
        yield batches


_NOTHING = object()
_TOGETHER = {"min_size": _min_size, "max_size": _max_size, "max_size_cycle": _max_size_cycle}


def _nest(structure: Any, items: list[Any]) -> Any:
    """Return ``structure`` with each index in it replaced by that one of ``items``."""
    if isinstance(structure, int):
        return items[structure]
    if isinstance(structure, dict):
        return {key: _nest(item, items) for key, item in structure.items()}
    return type(structure)(_nest(item, items) for item in structure)
