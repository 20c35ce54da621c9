"""Doing something with every tensor of a batch."""

from trainkit.data.transfer import move as move_data_to_device

__all__ = ["move_data_to_device"]
