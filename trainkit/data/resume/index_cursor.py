"""Continuing with a DataLoader over a map-style dataset: its samplers run again, and what was consumed is skipped."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from torch.utils.data import DataLoader

from trainkit.data.dataloader_copy import has_own_batches, index_sampler, is_of_torch, with_batch_sampler, with_sampler
from trainkit.data.global_batches import sampler_of
from trainkit.data.resume.cursor import Cursor, saved_by
from trainkit.data.resume.index_stream import IndexStream
from trainkit.data.resume.other_data import draws_other_samples, refuse_other_data
from trainkit.data.resume.seeding import epoch_seed
from trainkit.data.workers import end
from trainkit.errors import DataError
from trainkit.output import warn
from trainkit.seed import rng_state, same_rng_state
from trainkit.types import Batch


class IndexCursor(Cursor):
    """Runs the samplers again from the start of the epoch, and drops consumed batches as indices: none is loaded.

    The loader is copied, with an `IndexStream` between its sampler and its workers. The stream counts, skips, checks
    that the sampler gives what it gave before, and gives each batch a seed for the worker that makes it.

    Raises:
        DataError: If the loader gives batches in the order in which workers finish them.
    """

    def __init__(self, loader: DataLoader[Any], name: str) -> None:
        super().__init__(loader, name)
        if loader.num_workers and not getattr(loader, "in_order", True):
            raise DataError(f"{name} has in_order=False, so the order of its batches is left to chance. Leave it out.")
        self._stream: IndexStream | None = None
        # The copy is made once, not for each pass: persistent workers belong to the DataLoader that started them.
        if loader.batch_sampler is not None:
            self._positioned = with_batch_sampler(loader, _IndexSource(loader.batch_sampler, self))
        else:
            self._positioned = with_sampler(loader, _IndexSource(loader.sampler, self))
        self._skip = 0  # for the stream that is opened next
        self._draw_ahead = 0  # indices that workers had been given, and that nobody had consumed
        self._was_exhausted = False  # whether the sampler had been run into its end
        self._had_workers = False  # whether an earlier pass, perhaps before a resume, left persistent workers
        self._second_draw_watched = False
        self._saved_by: tuple[int, int] | None = None  # see `saved_by`

    def state_dict(self, under_way: int = 0) -> dict[str, Any]:
        state = super().state_dict(under_way)
        # Workers are given indices some batches ahead. These are drawn before later random numbers of the training
        # step, so a run that continues has to draw them at once too, not when they are consumed.
        drawn, checksum = (state["given"], 0) if self._stream is None else self._stream.drawn
        return {
            **state,
            "drawn": drawn,
            "checksum": checksum,
            "exhausted": self._stream is not None and self._stream.is_exhausted,
            "persistent": self._had_workers or self._has_workers,
            "samples": len(self.loader.dataset),
            "batch_size": self.loader.batch_size,
            "workers": self.loader.num_workers,
        }

    def _restore(self, state: dict[str, Any], *, mid_epoch: bool) -> None:
        self._had_workers = state.get("persistent", False)
        if self._resume is None:
            return
        self._saved_by = saved_by(state)
        # Of another rank's batches the size differs, and the samples are compared later.
        size = {} if self._saved_by else {"batch_size": self.loader.batch_size}
        refuse_other_data(self.name, state, samples=len(self.loader.dataset), **size)
        # Without workers the dataset draws from the generators of this process, with workers from seeds per batch.
        workers, had = self.loader.num_workers, state.get("workers", self.loader.num_workers)
        if bool(workers) != bool(had):
            warn(
                f"{self.name} has num_workers={workers}, and the run that is to be continued had {had}: in this epoch "
                "the dataset draws other random numbers than it would have. From some workers to others is exact."
            )
        # Older checkpoints have no "drawn", "persistent", "workers" and "exhausted".
        self._was_exhausted = state.get("exhausted", False)
        self._draw_ahead, self._expected = state.get("drawn", state["given"]) - state["given"], state["checksum"]

    def _require(self, state: dict[str, Any]) -> None:
        self._require_checksum(state.get("drawn", state["given"]), state["checksum"])

    def may_have_more(self, promised: int) -> bool:
        # Those of torch tell the truth, and are not asked ahead of their turn: nothing is drawn in another order.
        is_true = not has_own_batches(self.loader) and is_of_torch(index_sampler(self.loader))
        return not is_true or len(self.loader) != promised

    def has_more(self) -> bool:
        # In indices, as workers ask too: what is drawn here is given in its turn, and a checkpoint counts it.
        if self._stream is None or not self.may_have_more(len(self.loader)):
            return super().has_more()
        return self._stream.reaches(self._given.passed + 1)

    def known_samples(self, ahead: int) -> int | None:
        return None if self._stream is None else self._stream.size(self._given.passed - ahead)

    def known_indices(self, ahead: int) -> list[Any] | None:
        # A subclass may leave batches out, or give some of its own.
        if self._stream is None or type(self.loader).__iter__ is not DataLoader.__iter__:
            return None
        item = self._stream.item(self._given.passed - ahead)
        # Without a batch sampler, each index of the sampler is a batch of its own.
        return list(item) if isinstance(item, list | tuple) else None if item is None else [item]

    def rewind(self) -> None:
        super().rewind()
        self._stream = None

    def close(self) -> None:
        super().close()
        if self._has_workers:
            self._had_workers = True
            end(self._positioned._iterator)
            self._positioned._iterator = None

    @property
    def _has_workers(self) -> bool:
        """Whether worker processes are alive between passes."""
        # DataLoader keeps its iterator only with persistent_workers=True.
        return self._positioned._iterator is not None

    def open_stream(self, indices: Iterable[Any]) -> IndexStream:
        """Return a stream over ``indices``, the user's sampler. The DataLoader calls this when a pass begins.

        With workers it calls it twice, in ``__init__`` and ``_reset`` of its iterator; the second stream is used.
        """
        start = self.rng_at_start
        # Without workers, samples draw from the same generators as the training step, as in a loop written by hand.
        seed = epoch_seed(start["global"]["torch"], self.epoch) if self.loader.num_workers and start else None
        # What workers are given ahead of its turn, the newest batch, one that is loaded ahead, and one to know of.
        kept = self.loader.num_workers * (self.loader.prefetch_factor or 0) + 3
        self._stream = IndexStream(indices, self._skip, seed, self._at_first_draw, self._draw_second, kept)
        if self._had_workers and not self._has_workers and start is not None:
            # Starting workers draws a base seed, and in the run that is continued an earlier pass had started them. The
            # seed is not drawn yet here: recording the state now lets the first draw put the generators back to it.
            self._record_first_draw(start)
        return self._stream

    def _draw_second(self, indices: Iterator[Any]) -> Any:
        """Return the next of ``indices``; warn if the sampler drew random numbers for it.

        Those of the first draw can be repeated, because the states before it are kept. Later ones alternate with
        those of the training steps. One look is enough, as comparing states costs more than most samplers do.
        """
        if self._second_draw_watched:
            return next(indices)
        self._second_draw_watched = True
        before = rng_state()
        drawn = next(indices)
        if not same_rng_state(before, rng_state()):
            sampler = self.loader.batch_sampler if has_own_batches(self.loader) else index_sampler(self.loader)
            warn(
                f"{self.name}: {type(sampler).__name__} draws random numbers batch by batch from global generators. "
                "If training draws from them too, in Dropout for instance, a run cannot be continued in the middle of "
                "an epoch. Draw the whole order at the beginning of __iter__, or from a torch.Generator that is the "
                "sampler's attribute `generator`."
            )
        return drawn

    def _begin(self) -> Iterator[Batch]:
        return self._begin_at(0)

    def _begin_at(self, given: int) -> Iterator[Batch]:
        # iter() opens the stream, and with workers already sends them indices.
        self._skip = given
        batches = self._start(self._positioned)
        self._skip = 0
        return batches

    def _continue(self, given: int) -> Iterator[Batch]:
        batches = self._begin_at(given)
        drawn = given + self._draw_ahead
        if self._stream is None:
            raise DataError(
                f"{self.name}: {type(self.loader).__name__} iterates without its sampler, so its place is unknown."
            )
        # Now, while the generators stand at the epoch's beginning; after this method they stand where the run stopped.
        self._require_checksum(drawn, self._expected)
        if self._was_exhausted:
            # Its end is not run into again later: it would draw once more from a generator that is put back.
            self._stream.reaches(drawn + 1)
        return batches

    def _require_checksum(self, drawn: int, expected: int) -> None:
        """Raise `CheckpointError` unless the first ``drawn`` indices have the checksum ``expected``."""
        try:
            if self._stream is not None:
                self._stream.advance(drawn)
                dealt, by, self._saved_by = sampler_of(self.loader), self._saved_by, None
                own = self._stream.checksum(drawn) if not (dealt and by) else dealt.checksum_of(*by, drawn)
                if own == expected:
                    return
        except StopIteration:
            pass  # it ends earlier than it did
        raise draws_other_samples(self.name)


class _IndexSource:
    """Takes the place of the loader's (batch) sampler, and opens an `IndexStream` over it at each pass."""

    def __init__(self, sampler: Iterable[Any], owner: IndexCursor) -> None:
        self.sampler = sampler
        self._owner = owner

    def __iter__(self) -> IndexStream:
        return self._owner.open_stream(self.sampler)

    def __len__(self) -> int:
        return len(self.sampler)  # type: ignore[arg-type]  # asked only where the sampler has a length

    def __getattr__(self, name: str) -> Any:
        # For users who look at loader.batch_sampler.batch_size and the like. Copying and unpickling ask for special
        # methods while the instance has no attributes yet, and would come here again for `sampler`, without end.
        if name.startswith("__") or "sampler" not in self.__dict__:
            raise AttributeError(name)
        return getattr(self.sampler, name)

    def __getstate__(self) -> dict[str, Any]:
        # A copy or a pickle of the loader takes the sampler along, and not the run that is using it.
        return {"sampler": self.sampler, "_owner": None}
