"""One device."""

from trainkit.strategies.single import SingleDevice as SingleDeviceStrategy

__all__ = ["SingleDeviceStrategy"]
