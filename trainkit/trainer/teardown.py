"""Tearing down however a call ends: an error that comes meanwhile is noted on the one that ended it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from trainkit.errors import note_on
from trainkit.hooks.attribution import in_one_line
from trainkit.output import say


@contextmanager
def afterwards(tear_down: Callable[[], object]) -> Iterator[None]:
    """Call ``tear_down`` when what is inside has ended, also with an error, on which another one becomes a note."""
    try:
        yield
    except BaseException as error:
        with noted_on(error):
            tear_down()
        raise
    tear_down()


@contextmanager
def noted_on(error: BaseException) -> Iterator[None]:
    """Tidy up after ``error``: what goes wrong meanwhile becomes a note on it, and does not take its place."""
    try:
        yield
    except Exception as another:
        note = f"then, while tearing down: {in_one_line(another)}"
        note_on(error, note)
        if not isinstance(error, Exception):
            # Python prints no notes of what a signal surfaces as, and this may be all that the user ever hears of it.
            say(f"trainkit: {note}", err=True)
