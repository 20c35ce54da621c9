"""Plugins made of single attributes, and what is said of them."""

from __future__ import annotations

from typing import Any

import pytest

from trainkit.errors import HookError
from trainkit.hooks.implementations import find_implementations


def found(plugin: object) -> dict[str, str | None]:
    """Return the hook that each attribute joins."""
    return {attribute: options["specname"] for attribute, _, options in find_implementations(plugin)}


def plugin_with(**attributes: Any) -> object:
    """Return a plugin whose class has these attributes."""
    return type("Plugin", (), attributes)()


def refusal(**attributes: Any) -> str:
    """Return why a plugin with these attributes is refused."""
    with pytest.raises(HookError) as caught:
        find_implementations(plugin_with(**attributes))
    return str(caught.value)
