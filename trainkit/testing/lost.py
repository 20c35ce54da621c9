"""Finds what the user's own objects held in a run that never stopped, and no longer in one that was resumed."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from trainkit.testing.trace import read_held

_ABSENT = ["", "", "", "nothing"]

# By owner; {0} is the attribute.
_TO_DO = {
    "module": "save {0} in the module's on_save_checkpoint and bring it back in on_load_checkpoint",
    "callback": "give the callback state_dict and load_state_dict, with {0} in them",
    "data module": "return {0} from the data module's state_dict, and take it back in load_state_dict",
    "data": "let a DataModule save {0} in its state_dict and bring it back in load_state_dict, or let what is returned "
    "depend on the index alone",
    "program": "make {0} an attribute of the module, and save it in on_save_checkpoint",
}
_BUFFER = "make {0} a buffer: self.register_buffer({0!r}, ...)"
_GLOBAL = "draw from torch's, numpy's or random's global generator, which every checkpoint holds; or "


@dataclass(frozen=True)
class Lost:
    """A value that was lost at a stop.

    Attributes:
        name: Where, such as ``Digits.counter``.
        was: The value in the run that never stopped, in words.
        now: The value in the run that was resumed.
        to_do: How to keep it.
    """

    name: str
    was: str
    now: str
    to_do: str


def lost_at_first(whole: Path, again: Path, resumed: Path) -> list[Lost]:
    """Return what had another value when the resumed run began, at the first place where both runs were."""
    return _lost(whole, again, resumed, 0)


def lost_for_good(whole: Path, again: Path, resumed: Path) -> list[Lost]:
    """Return what had another value at the end of both runs still, so that it is not made anew in each batch."""
    return _lost(whole, again, resumed, -1)


def _lost(whole: Path, again: Path, resumed: Path, index: int) -> list[Lost]:
    """Return what differs at one of the places where all three runs were.

    Args:
        whole: The folder of the run that never stopped.
        again: That of a second one. What differs between these two differs for another reason, such as an address.
        resumed: That of the run that was resumed.
        index: Which of the places.
    """
    runs = [read_held(folder) for folder in (whole, again, resumed)]
    common = [place for place in runs[2] if place in runs[0] and place in runs[1]]
    if not common:
        return []
    one, two, three = (run[common[index]] for run in runs)
    found = []
    for name in dict.fromkeys([*one, *three]):
        was, now = one.get(name, _ABSENT), three.get(name, _ABSENT)
        if was[2] != now[2] and was[2] == two.get(name, _ABSENT)[2]:
            owner, kind = (was[0], was[1]) if name in one else (now[0], now[1])
            # Of a cache, or a generator, the same in words.
            other = now[3] if now[3] != was[3] else "another one"
            found.append(Lost(name, was[3], other, _to_do(name, owner, kind)))
    return found


def _to_do(name: str, owner: str, kind: str) -> str:
    attribute = name.partition(" ")[0].rpartition(".")[2]
    if kind == "tensor" and owner == "module":
        return _BUFFER.format(attribute)
    before = _GLOBAL if kind == "generator" else ""
    return before + _TO_DO[owner].format(attribute)
