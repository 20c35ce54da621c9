"""Continuing with an iterable dataset, or any other iterable: what was consumed is loaded again and thrown away."""

from __future__ import annotations

import itertools
import warnings
from collections.abc import Iterator
from typing import Any

from torch.utils.data import DataLoader

from trainkit.data.combined import batches_of, is_sliceable
from trainkit.data.dataloader_copy import with_batch_sampler, with_sampler
from trainkit.data.resume.content import checksum
from trainkit.data.resume.cursor import Cursor, generators_of
from trainkit.data.resume.other_data import gives_other_data
from trainkit.output import warn
from trainkit.seed import isolate_rng, rng_state, same_rng_state
from trainkit.types import Batch


class ReplayCursor(Cursor):
    """Finds its place by loading batches and throwing them away; lists and tuples are sliced instead."""

    def _begin(self) -> Iterator[Batch]:
        batches = self._start(batches_of(_without_persistent_workers(self.loader)))
        return itertools.chain(self._first(batches), batches)

    @property
    def may_draw(self) -> bool:
        # Samples, batches and their seeds are made in workers then. A subclass may do more in this process.
        return type(self.loader) is not DataLoader or not self.loader.num_workers

    @property
    def is_told_by_count(self) -> bool:
        return not generators_of(self.loader)

    def goes_on(self) -> bool:
        batches = self._fresh_pass()
        if batches is None or is_sliceable(self.loader) or self._given.passed != len(self.loader):
            return False
        own = self.own_generators()
        # A plain `for` loop asks once more too. Nobody sees what is drawn, and torch warns of the same in its own way.
        with isolate_rng(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            more = any(True for _ in itertools.islice(batches, 1))
        self.set_own_generators(own)
        return more

    def _first(self, batches: Iterator[Batch]) -> Iterator[Batch]:
        self._at_first_draw()
        for batch in itertools.islice(batches, 1):
            start, content = self.rng_at_start, checksum(batch)
            assert start is not None
            # Where the place in a pass is found again, its first batch has to be what it was.
            if start.setdefault("first_batch", content) != content:
                if not self.tolerant:
                    raise gives_other_data(self.name)
                self._tolerate(gives_other_data(self.name))
            yield batch

    def _continue(self, given: int) -> Iterator[Batch]:
        if is_sliceable(self.loader):
            return iter(self.loader[given:])
        if not given:
            return self._begin()
        warn(
            f"{self.name} is a {type(self.loader).__name__}, which cannot be told where to begin: to continue "
            f"exactly, {given} batches are loaded and thrown away. A map-style dataset, or a loader with state_dict "
            "and load_state_dict, skips them."
        )
        batches = self._begin()
        # What is drawn for the first batch comes out as it did before: an `__iter__` may draw a seed for a generator of
        # its own there. Later draws may have alternated with those of training, which are not made again here.
        next(batches, None)
        before = rng_state()
        for _ in itertools.islice(batches, given - 1):
            pass
        if self.draws_in_turn and not same_rng_state(before, rng_state()):
            warn(
                f"{self.name} draws random numbers from the global generators, in turn with training, so what was "
                "thrown away may differ from what the run had before: a buffer that it shuffles has other samples "
                "now. Let the dataset draw from a torch.Generator that it makes in __iter__."
            )
        return batches


def _without_persistent_workers(loader: Any) -> Any:
    """Return a copy of a DataLoader whose workers end with each pass; any other loader as it is."""
    # Workers that persist go on with the random numbers of the epoch before, which no checkpoint holds.
    if isinstance(loader, DataLoader) and loader.persistent_workers:
        # The samplers stay the same: this is only the way to a copy that shares no workers with the user's loader.
        loader = (
            with_batch_sampler(loader, loader.batch_sampler)
            if loader.batch_sampler is not None
            else with_sampler(loader, loader.sampler)
        )
        # Past DataLoader.__setattr__, which refuses to change this attribute.
        loader.__dict__["persistent_workers"] = False
    return loader
