"""Looking at what a user's class overrides."""

from __future__ import annotations

from trainkit.reflection import overrides


def is_overridden(method_name: str, instance: object, parent: type | None = None) -> bool:
    """Return whether ``instance`` has its own version of a method of ``parent`` (by default, of its base)."""
    if parent is None:
        kinds = [kind for kind in type(instance).__mro__ if kind.__module__.startswith("trainkit.")]
        parent = next((kind for kind in kinds if hasattr(kind, method_name)), object)
    return overrides(instance, method_name, parent)
