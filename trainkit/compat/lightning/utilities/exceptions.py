"""Lightning's exceptions, as far as programs catch or raise them."""

from trainkit.errors import TrainkitError


class SIGTERMException(SystemExit):
    """Lightning's word for an end by SIGTERM; trainkit raises ``SystemExit(143)``, which is no subclass of this."""


MisconfigurationException = TrainkitError
"""What Lightning raises for whatever was put together wrongly; trainkit has an exception for each kind."""

__all__ = ["MisconfigurationException", "SIGTERMException"]
