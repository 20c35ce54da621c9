"""`RichProgressBar`: trainkit's bar, which is drawn by rich in a terminal."""

from __future__ import annotations

from typing import Any

from trainkit.checks import takes_numpy
from trainkit.compat.lightning.callbacks.progress.progress_bar import ProgressBar


class RichProgressBarTheme:
    """Accepted: the bar has one look.

    Args:
        styles: Lightning's names of colours and formats.
    """

    def __init__(self, **styles: Any) -> None:
        vars(self).update(styles)


class RichProgressBar(ProgressBar):
    """trainkit's `ProgressBar`.

    Args:
        refresh_rate: Look whether a refresh is due after so many batches; 0 shows nothing at all.
        leave: Whether the bar of each epoch stays when the next one begins.
        theme: Accepted: the bar has one look.
        console_kwargs: Accepted: the bar is drawn where the run prints.
    """

    @takes_numpy
    def __init__(
        self,
        refresh_rate: int = 1,
        leave: bool = False,
        theme: RichProgressBarTheme | None = None,
        console_kwargs: dict[str, Any] | None = None,
    ) -> None:
        super().__init__(refresh_rate, leave)
