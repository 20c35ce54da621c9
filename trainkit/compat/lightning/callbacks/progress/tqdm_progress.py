"""`TQDMProgressBar`: trainkit's bar, which needs no tqdm."""

from trainkit.checks import takes_numpy
from trainkit.compat.lightning.callbacks.progress.progress_bar import ProgressBar


class TQDMProgressBar(ProgressBar):
    """trainkit's `ProgressBar`.

    Args:
        refresh_rate: Look whether a refresh is due after so many batches; 0 shows nothing at all.
        process_position: Accepted: there is one bar on the screen.
        leave: Whether the bar of each epoch stays when the next one begins.
    """

    @takes_numpy
    def __init__(self, refresh_rate: int = 1, process_position: int = 0, leave: bool = False) -> None:
        super().__init__(refresh_rate, leave)
