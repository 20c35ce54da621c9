"""A category for warnings that may be wrong; trainkit warns of what is so, and has no use for it."""

from __future__ import annotations

import warnings


class PossibleUserWarning(UserWarning):
    """Lightning's category for what may be a slip; programs silence it."""


def disable_possible_user_warnings(module: str = "") -> None:
    """Silence warnings of this category."""
    warnings.filterwarnings("ignore", module=module, category=PossibleUserWarning)


__all__ = ["PossibleUserWarning", "disable_possible_user_warnings"]
