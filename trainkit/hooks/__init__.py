"""Hooks: declared in ``specs.py``, registered in ``manager.py``, called through ``dispatch.py``."""

from trainkit.hooks.dispatch import BoundHooks
from trainkit.hooks.manager import HookManager
from trainkit.hooks.specs import hookimpl

__all__ = ["BoundHooks", "HookManager", "hookimpl"]
