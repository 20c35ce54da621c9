"""The progress bar: what it follows (callback.py), how it reads metrics without waiting, and where it is drawn."""

from trainkit.callbacks.progress_bar.callback import ProgressBar

__all__ = ["ProgressBar"]
