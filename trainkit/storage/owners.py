"""Errors of those who give a part of a checkpoint, and get it back: they name who it is, the file, the place in it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from trainkit.errors import CheckpointError, StateError, TrainkitError, note_on
from trainkit.hooks.attribution import in_one_line, origin
from trainkit.printable import printable

_OF_A_WRONG_VALUE = (ArithmeticError, AttributeError, LookupError, RuntimeError, TypeError, ValueError)


def state_of(owner: Any) -> Any:
    """Return what ``owner.state_dict()`` does, whatever it is. What it raises stays as it is, with a note."""
    try:
        return owner.state_dict()
    except Exception as error:
        note_on(error, f"in {_described(owner)}, which was asked for its state_dict()")
        raise


def dict_of(owner: Any, *, may_be_none: bool = False) -> dict[str, Any]:
    """Return what ``owner.state_dict()`` does, where anything but a dict would be refused when it is read.

    Args:
        owner: Who has a state.
        may_be_none: Whether None stands for an empty state.

    Raises:
        StateError: If it is something else.
    """
    state = state_of(owner)
    if state is None and may_be_none:
        return {}
    if not isinstance(state, dict):
        kind = "None" if state is None else f"something of type {type(state).__name__}"
        raise StateError(
            f"{_described(owner)}: state_dict() returned {kind}, and a checkpoint holds a dict there. Return one, such "
            "as {'state': ...}, which load_state_dict gets back."
        )
    return state


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
        note_on(error, f"in {_described(owner)}, which was given {printable(place)} of {printable(path)}")
        raise


def _described(owner: object) -> str:
    name = owner.__name__ if isinstance(owner, type) else type(owner).__qualname__
    return f"{name} ({origin(owner)})"


def _unusable(place: str, path: str, reason: str) -> CheckpointError:
    where = f"{printable(path)} is whole, and yet {printable(place)} in it"
    return CheckpointError(f"{where} cannot be used: {reason}. Use another one.")
