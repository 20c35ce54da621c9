"""Batches of any nesting: walked through, measured, moved to a device, split and put together again.

Read first: ``nested.py`` (the walk that the others use), ``transfer.py`` (how a batch gets to the device).
"""
