"""Doing something with every tensor of a batch."""

from trainkit.batch.transfer import move as move_data_to_device

__all__ = ["move_data_to_device"]
