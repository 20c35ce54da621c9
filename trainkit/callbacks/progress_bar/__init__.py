"""The progress bar.

`callback` follows the run, `bar` counts and estimates, `async_values` reads metrics without waiting for the device, and
`choose` picks the display that draws: `terminal`, `notebook`, or `lines` of text.
"""

from trainkit.callbacks.progress_bar.callback import ProgressBar

__all__ = ["ProgressBar"]
