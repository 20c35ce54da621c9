"""Errors of those who get a part of a checkpoint back: they name the file, and the place in it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from trainkit.errors import CheckpointError, StateError, TrainkitError
from trainkit.hooks.attribution import in_one_line, origin

_OF_A_WRONG_VALUE = (ArithmeticError, AttributeError, LookupError, RuntimeError, TypeError, ValueError)


@contextmanager
def restoring(place: str, path: str) -> Iterator[None]:
    """Restore what trainkit or torch has saved at ``place`` of a file: whatever goes wrong is wrong in the file.

    Raises:
        CheckpointError: Names both, and what is wrong.
    """
    try:
        yield
    except StateError as error:
        raise _unusable(place, path, str(error)) from error
    except TrainkitError:
        raise  # it says itself what is wrong
    except _OF_A_WRONG_VALUE as error:
        raise _unusable(place, path, in_one_line(error)) from error


@contextmanager
def given_to(owner: object, place: str, path: str) -> Iterator[None]:
    """Let others restore what they have saved at ``place`` of a file. What they raise stays as it is, with a note.

    Raises:
        CheckpointError: In place of a `StateError`, which does not know of the file.
    """
    try:
        yield
    except StateError as error:
        raise _unusable(place, path, str(error)) from error
    except Exception as error:
        name = owner.__name__ if isinstance(owner, type) else type(owner).__qualname__
        error.add_note(f"in {name} ({origin(owner)}), which was given {place} of {path}")
        raise


def _unusable(place: str, path: str, reason: str) -> CheckpointError:
    return CheckpointError(f"{path} is whole, and yet {place} in it cannot be used: {reason}. Use another one.")
