"""One rank's part in a call that several ranks make: the others learn that it takes part, and how it has left."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from trainkit.hooks.attribution import in_one_line
from trainkit.trainer.teardown import afterwards, noted_on

if TYPE_CHECKING:
    from trainkit.trainer.call import Call


@contextmanager
def taking_part(call: Call) -> Iterator[None]:
    """Return a context in which ``call`` is that of all ranks, and the strategy is set up."""
    strategy = call.strategy
    strategy.setup()
    with afterwards(strategy.teardown):
        if not strategy.is_distributed:
            yield
            return
        watch = strategy.ranks.watch
        watch.position = lambda: call.progress.total_batches
        watch.exchanges = strategy.waits_in_backward
        watch.joined = call.registry.order
        watch.begin_call(call.stage)
        try:
            with watch.hearing_signals():
                yield
        except BaseException as error:
            tell_ranks(call, error)
            with noted_on(error):
                strategy.part()
            raise
        watch.leave_call(f"has ended trainer.{call.stage}()")


def tell_ranks(call: Call, error: BaseException) -> None:
    """Let the other ranks know that ``error`` has ended the call on this one."""
    if call.strategy.is_distributed:
        who = "".join(f", {note}" for note in getattr(error, "__notes__", ()) if note.startswith("in plugin "))
        call.strategy.ranks.watch.leave_call(
            f"has left trainer.{call.stage}() after {call.progress.total_batches} batches: {in_one_line(error)}{who}"
        )
