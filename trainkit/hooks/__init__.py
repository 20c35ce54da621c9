"""Hooks: declared in ``specs.py``, registered in ``manager.py``, bound in ``dispatch.py``, called from ``bound.py``."""

from trainkit.hooks.bound import BoundHooks
from trainkit.hooks.manager import HookManager
from trainkit.hooks.specs import hookimpl

__all__ = ["BoundHooks", "HookManager", "hookimpl"]
