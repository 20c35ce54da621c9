"""Batches, of any nesting: walked over, moved to a device, measured, split and put together again."""
