"""A dict whose keys are attributes too."""

from trainkit.compat.lightning.utilities.parsing import AttributeDict

__all__ = ["AttributeDict"]
