"""Finding out whether a user's class overrides a method."""

from __future__ import annotations


def overrides(owner: object, name: str, base: type) -> bool:
    """Return whether ``owner`` has a method ``name`` other than the one that ``base`` defines.

    A function that is set on the instance counts too. A method that ``base`` does not define at all is an override.
    """
    if name in getattr(owner, "__dict__", {}):
        return True
    # Looked up on the classes, where functions are compared: bound methods are new objects at each access.
    own = getattr(type(owner), name, None)
    return own is not None and own is not getattr(base, name, None)
