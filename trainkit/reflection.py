"""Whether a user's class has its own version of a method."""

from __future__ import annotations


def overrides(owner: object, name: str, base: type) -> bool:
    """Return whether ``owner`` has a method ``name`` that is not the one ``base`` defines.

    A function set on the instance counts as well.
    """
    if name in getattr(owner, "__dict__", {}):
        return True
    own = getattr(type(owner), name, None)
    return own is not None and own is not getattr(base, name, None)
