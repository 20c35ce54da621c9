"""A category for warnings that may be wrong."""

from trainkit.compat.lightning.utilities.warnings import PossibleUserWarning, disable_possible_user_warnings

__all__ = ["PossibleUserWarning", "disable_possible_user_warnings"]
