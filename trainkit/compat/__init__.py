"""Layers for code that was written for other frameworks. The core imports nothing from here."""
