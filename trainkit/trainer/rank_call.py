"""One rank's part in a call that several ranks make: the others learn that it takes part, and how it has left."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import TYPE_CHECKING

from trainkit.hooks.attribution import in_one_line
from trainkit.strategies.ranks.places import raiser_of
from trainkit.trainer.teardown import afterwards, noted_on

if TYPE_CHECKING:
    from trainkit.trainer.call import Call


@contextmanager
def taking_part(call: Call) -> Iterator[None]:
    """Return a context in which ``call`` is that of all ranks, and the strategy is set up."""
    strategy = call.strategy
    strategy.setup()
    with afterwards(strategy.teardown):
        with _watched(call) if strategy.is_distributed else nullcontext():
            yield


@contextmanager
def _watched(call: Call) -> Iterator[None]:
    """Return a context in which the other ranks can see where this one is in ``call``."""
    strategy, ranks = call.strategy, call.strategy.ranks
    watch = ranks.watch
    # A call in a hook of another one is a part of that, which goes on afterwards.
    is_outermost = not watch.is_inside
    before = watch.position, watch.exchanges, watch.joined, ranks.meeting.on_call
    watch.position = lambda: call.progress.total_batches
    watch.exchanges, watch.joined = strategy.waits_in_backward, call.registry.order
    if is_outermost:
        watch.begin_call(call.stage)
    try:
        with watch.hearing_signals():
            yield
        if is_outermost:
            watch.leave_call(f"has ended trainer.{call.stage}()")
    except BaseException as error:
        if is_outermost:
            tell_ranks(call, error)
            with noted_on(error):
                strategy.part()
        raise
    finally:
        watch.position, watch.exchanges, watch.joined, ranks.meeting.on_call = before


def tell_ranks(call: Call, error: BaseException) -> None:
    """Let the other ranks know that ``error`` has ended the call on this one."""
    if call.strategy.is_distributed:
        who = "".join(f", {note}" for note in getattr(error, "__notes__", ()) if note.startswith("in plugin "))
        who = who or raiser_of(error)  # plugins are not named on what ends a program, such as sys.exit()
        call.strategy.ranks.watch.leave_call(
            f"has left trainer.{call.stage}() after {call.progress.total_batches} batches: {in_one_line(error)}{who}"
        )
