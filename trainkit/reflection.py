"""Finding out about an object of a user's class: which methods it overrides, and with which arguments it was made."""

from __future__ import annotations

import inspect
import re
from reprlib import Repr


def overrides(owner: object, name: str, base: type) -> bool:
    """Return whether ``owner`` has a method ``name`` other than the one that ``base`` defines.

    A function that is set on the instance counts too. A method that ``base`` does not define at all is an override.
    """
    if name in getattr(owner, "__dict__", {}):
        return True
    # Looked up on the classes, where functions are compared: bound methods are new objects at each access.
    own = getattr(type(owner), name, None)
    return own is not None and own is not getattr(base, name, None)


def describe_arguments(owner: object) -> str:
    """Return the arguments with which ``owner`` was made, as text that is the same in another process.

    They are found where the object keeps them as attributes of the same names, a private one before a
    public one. Of large values it is only the beginning and the end.
    """
    kept = getattr(owner, "__dict__", {})
    names = inspect.signature(type(owner).__init__).parameters
    found = {name: kept[key] for name in names for key in (name, f"_{name}") if key in kept}
    short = Repr()
    short.maxstring = short.maxother = 1000
    text = ", ".join(f"{name}={short.repr(value)}" for name, value in found.items())
    return re.sub(r" at 0x[0-9a-fA-F]+", "", text)
