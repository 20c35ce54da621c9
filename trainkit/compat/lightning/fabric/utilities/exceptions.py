"""Lightning's exceptions."""

from trainkit.compat.lightning.utilities.exceptions import MisconfigurationException

__all__ = ["MisconfigurationException"]
