"""Checkpoints: what is in one, and files that are written whole and read without running code."""
