"""Printing and warning. It ends no run: where stdout is closed or full, that is told once, and training goes on."""

from __future__ import annotations

import atexit
import os
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import FrameType
from typing import Any, TextIO
from weakref import WeakSet

from trainkit.printable import printable_lines
from trainkit.reflection import is_ours

_LOST: WeakSet[TextIO] = WeakSet()
"""The streams of which was told that they cannot be written to. They belong to the process, and so does this."""

_TOLD: dict[str | tuple[str, type[Warning], int], int] = {}
"""What `warn` has told in the newest run, in the form in which ``warnings`` remembers it."""

_SPEAKER = {"rank": 0, "world_size": 1}
"""Which of several ranks this process is. It belongs to the process, and so does this."""


def say(text: object, *, err: bool = False) -> None:
    """Print what trainkit says, and at once. Nothing in it acts on a terminal: see `trainkit.printable`.

    Args:
        text: One line or several.
        err: Whether to print on stderr.
    """
    print_as_is(printable_lines(text), err=err)


def print_as_is(*values: Any, err: bool = False, **options: Any) -> None:
    """Print as ``print`` does, for a user, whose text may have colours in it.

    A reader that is gone, or a disk that is full, does not end the run.

    Args:
        values: What to print.
        err: Whether to print on stderr.
        options: Those of ``print``. What goes to another ``file`` is printed as ever, errors included.
    """
    if options.get("file") is not None:
        print(*values, **options)
        return
    # Made outside the context: what goes wrong in the `__str__` of a value is the affair of whoever prints it.
    text = [str(value) for value in values]
    with printing(err=err):
        print(*text, **(options | {"file": sys.stderr if err else sys.stdout, "flush": True}))


@contextmanager
def printing(*, err: bool = False) -> Iterator[None]:
    """Return a context in which what cannot be written to stdout (or stderr) is lost, which is told once."""
    stream = sys.stderr if err else sys.stdout
    # While bars are drawn, rich has put an object of its own in the place of stdout.
    stream = getattr(stream, "rich_proxied_file", stream)
    try:
        yield
    except OSError as error:
        _tell(stream, error.strerror or str(error), err)
    except ValueError as error:
        # What Python raises where a stream was closed, or cannot hold a character; any other is a bug.
        if not (isinstance(error, UnicodeEncodeError) or getattr(stream, "closed", False)):
            raise
        _tell(stream, str(error), err)


def warn(message: str, *, innermost: bool = False, of_rank: bool = False) -> None:
    """Warn of ``message``, in each run anew; where stderr is gone as well, nobody can be told.

    All warnings of a run come from here. ``warnings.warn`` tells a text once in a process: of the second run in a
    notebook, or in a loop over settings, nothing would be heard. Here it is told once in a run. Filters hold as ever:
    for errors, for silence, by the module that warns.

    Args:
        message: What works and will surprise, and what to do about it.
        innermost: Whether the line is named that has called this part of trainkit, such as one in a hook; by default it
            is that of the program that has called trainkit.
        of_rank: Whether it is a fact of this rank alone, which is named then. What is so on all ranks is told by rank
            0, and not by each.
    """
    rank, world_size = _SPEAKER["rank"], _SPEAKER["world_size"]
    if of_rank and world_size > 1:
        message = f"rank {rank}: {message}"
    elif rank != 0:
        return
    caller = sys._getframe(1)
    frame = _within(caller) if innermost else _outside(caller)
    with suppress(OSError, ValueError):
        warnings.warn_explicit(
            printable_lines(message),
            UserWarning,
            frame.f_code.co_filename,
            frame.f_lineno,
            module=caller.f_globals.get("__name__"),
            registry=_TOLD,
        )


def begin_telling(rank: int = 0, world_size: int = 1) -> None:
    """A run begins, and tells what was told in earlier ones too.

    Args:
        rank: The number of this process among those that run it.
        world_size: How many these are.
    """
    _TOLD.clear()
    speak_as(rank, world_size)


def speak_as(rank: int, world_size: int) -> None:
    """Let rank 0 tell from now on what is so on all ranks."""
    _SPEAKER.update(rank=rank, world_size=world_size)


def _outside(frame: FrameType) -> FrameType:
    """Return the frame from which trainkit was called, ``frame`` being one of its own."""
    line, each = frame, frame.f_back
    # The outermost of our frames, as the user's hooks and torch are called by others of them.
    while each is not None:
        if is_ours(each):
            line = each
        each = each.f_back
    return line.f_back or line


def _within(frame: FrameType) -> FrameType:
    """Return the newest frame that is not ours and has led to ``frame``."""
    each: FrameType | None = frame
    while each is not None and is_ours(each):
        each = each.f_back
    return each or frame


def discard_at_exit() -> None:
    """When the program ends, drop what could not be written. Python would complain, and end with exit code 120."""
    atexit.unregister(_discard_unwritten)  # never twice
    atexit.register(_discard_unwritten)


def _tell(stream: TextIO | None, reason: str, err: bool) -> None:
    if stream is None or stream in _LOST:
        return
    _LOST.add(stream)
    discard_at_exit()
    if not err:
        warn(
            f"stdout cannot be written to ({reason}): what is printed there is lost from here on. The run goes on.",
            of_rank=True,
        )


def _discard_unwritten() -> None:
    for stream in (sys.stdout, sys.stderr):
        if stream is None:
            continue
        try:
            stream.flush()
        except (OSError, ValueError):
            # What waits in the buffer goes where everything can be written to.
            with suppress(OSError, ValueError):
                os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
