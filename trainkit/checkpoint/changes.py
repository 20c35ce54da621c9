"""What differs between what a run was made with and what the code gives when it goes on."""

from __future__ import annotations

import textwrap
from collections.abc import Collection, Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor

from trainkit.reflection import HIDDEN, hide_secrets

Rows = dict[str, Any]
"""What a run was made with: plain values by names such as ``optimizer.lr``, and classes by the names before the dot."""

_WIDTH = 98
_NARROWEST = 16
_OF_THE_CODE = ("interval", "frequency", "every", "monitor")
"""What says when a scheduler steps: it is in no scheduler's state."""


class _Missing:
    """Stands for a value that one of the two sides does not have."""

    def __repr__(self) -> str:
        return "-"


MISSING = _Missing()


class Change(NamedTuple):
    """One value that differs.

    Attributes:
        name: Such as ``optimizer.lr`` or ``batch_size``.
        before: What the run was made with, or `MISSING`.
        now: What the code gives, or `MISSING`.
        holds: Which of the two the run goes on with: ``"checkpoint"`` or ``"code"``.
    """

    name: str
    before: Any
    now: Any
    holds: str


def find_changes(before: Rows, now: Rows, taken: Collection[str]) -> list[Change]:
    """Return what differs, in the order of ``now``.

    Where a class differs, its arguments are not compared.

    Args:
        before: What the run was made with.
        now: What the code gives.
        taken: The names of which the code's value is taken.
    """
    changes = []
    within: tuple[str, ...] = ()
    # A dict as an ordered set: the names of both, each once.
    for name in dict.fromkeys([*now, *before]):
        old, new = before.get(name, MISSING), now.get(name, MISSING)
        if name.startswith(within) or same(old, new):
            continue
        within = (*within, f"{name}.", f"{name}[")
        changes.append(Change(name, old, new, "checkpoint" if is_in_state(name) and name not in taken else "code"))
    return changes


def is_in_state(name: str) -> bool:
    """Whether the state of an optimizer or scheduler contains a value, so that the code's is overridden by it."""
    return name.startswith(("optimizer", "scheduler")) and name.rpartition(".")[2] not in _OF_THE_CODE


def is_class(name: str) -> bool:
    """Whether the value is the class of an optimizer or scheduler, and no argument of one."""
    return is_in_state(name) and "." not in name


def table(changes: list[Change], path: str) -> str:
    """Return a text with one line for each change: both values, and which of them holds."""
    name_width = max(len("what"), *(len(change.name) for change in changes))
    room = max(_NARROWEST, (_WIDTH - name_width - len("checkpoint") - 10) // 2)
    lines = [("what", "checkpoint", "code", "holds")]
    lines += [(change.name, *_texts(change, room), change.holds) for change in changes]
    widths = [max(len(line[column]) for line in lines) for column in range(4)]
    shown = ["  ".join(text.ljust(width) for text, width in zip(line, widths, strict=True)).rstrip() for line in lines]
    text = f"{path} was saved by a run that was made with other values:\n" + textwrap.indent("\n".join(shown), "    ")
    overridden = [change.name for change in changes if change.holds == "checkpoint"]
    if overridden:
        names = list(dict.fromkeys(name.rpartition(".")[2] for name in overridden))
        advice = (
            f"Where the checkpoint's value holds, take={names} of fit takes the code's, as does "
            f"--take {','.join(names)} on the command line."
        )
        text += "\n" + textwrap.fill(advice, _WIDTH, break_long_words=False, break_on_hyphens=False)
    return text


def same(first: Any, second: Any) -> bool:
    """Return whether two values are equal, at any depth; NaN equals NaN, and a list a tuple of the same items.

    Values that cannot be compared are equal if they look equal.
    """
    if first is second:
        return True
    if first is MISSING or second is MISSING:
        return False
    if isinstance(first, Tensor) and isinstance(second, Tensor):
        return _same_tensors(first, second)
    if isinstance(first, Mapping) and isinstance(second, Mapping):
        return first.keys() == second.keys() and all(same(value, second[key]) for key, value in first.items())
    if isinstance(first, list | tuple) and isinstance(second, list | tuple):
        return len(first) == len(second) and all(map(same, first, second))
    try:
        return bool(first == second or (first != first and second != second))
    except Exception:  # arrays, and whatever else answers with something that is neither true nor false
        return repr(first) == repr(second)


def _same_tensors(first: Tensor, second: Tensor) -> bool:
    if first.shape != second.shape or first.dtype != second.dtype:
        return False
    first, second = first.detach().cpu(), second.detach().cpu()
    return torch.equal(first, second) or bool(((first == second) | ((first != first) & (second != second))).all())


def _texts(change: Change, room: int) -> tuple[str, str]:
    """Return both values as text, each cut to ``room`` around the place at which the two begin to differ."""
    before, now = (hide_secrets(value, change.name) for value in (change.before, change.now))
    if before is HIDDEN:
        return HIDDEN, HIDDEN
    texts = [_text(before), _text(now)]
    if texts[0] == texts[1]:  # "1" and 1, or two tensors
        texts = [f"{value!r}" for value in (before, now)]
    if texts[0] == texts[1]:
        texts = [f"{text} ({type(value).__name__})" for text, value in zip(texts, (before, now), strict=True)]
    pairs = enumerate(zip(*texts, strict=False))
    place = next((index for index, (one, other) in pairs if one != other), min(map(len, texts)))
    return _cut(texts[0], place, room), _cut(texts[1], place, room)


def _text(value: Any) -> str:
    if isinstance(value, Tensor):
        return f"{str(value.dtype).removeprefix('torch.')}{list(value.shape)}"
    plain = isinstance(value, str) and value.isprintable() and value.strip() == value != ""
    return " ".join((value if plain else repr(value)).split())


def _cut(text: str, place: int, room: int) -> str:
    if len(text) <= room:
        return text
    start = max(0, min(place - room // 2, len(text) - room + 3))
    head = "..." if start else ""
    rest = text[start:]
    end = room - len(head)
    return head + (rest if len(rest) <= end else f"{rest[: end - 3]}...")
