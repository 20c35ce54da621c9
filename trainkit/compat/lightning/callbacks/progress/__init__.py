"""Lightning's progress bars: one bar, under all their names."""

from trainkit.compat.lightning.callbacks.progress.progress_bar import ProgressBar
from trainkit.compat.lightning.callbacks.progress.rich_progress import RichProgressBar
from trainkit.compat.lightning.callbacks.progress.tqdm_progress import TQDMProgressBar

__all__ = ["ProgressBar", "RichProgressBar", "TQDMProgressBar"]
