"""`EarlyStopping` with Lightning's arguments."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, ClassVar

import torch
from torch import Tensor

from trainkit.callbacks import early_stopping as core
from trainkit.callbacks.early_stopping import EarlyStoppingReason
from trainkit.callbacks.monitor import Mode
from trainkit.checks import takes_numpy
from trainkit.compat.lightning.binding import takes_all
from trainkit.compat.lightning.callbacks.callback import Callback

if TYPE_CHECKING:
    from trainkit.trainer import Trainer

__all__ = ["EarlyStopping", "EarlyStoppingReason"]


@takes_all
class EarlyStopping(core.EarlyStopping, Callback):
    """trainkit's `EarlyStopping`, with its arguments by position too; see `trainkit.callbacks.EarlyStopping`.

    Attributes:
        mode_dict: From each mode to what compares two values by it.
    """

    mode_dict: ClassVar[dict[str, Callable[[Tensor, Tensor], Tensor]]] = {"min": torch.lt, "max": torch.gt}

    @takes_numpy
    def __init__(
        self,
        monitor: str,
        min_delta: float = 0.0,
        patience: int = 3,
        verbose: bool = False,
        mode: Mode = "min",
        strict: bool = True,
        check_finite: bool = True,
        stopping_threshold: float | None = None,
        divergence_threshold: float | None = None,
        check_on_train_epoch_end: bool | None = None,
        log_rank_zero_only: bool = False,
    ) -> None:
        super().__init__(
            monitor,
            min_delta,
            patience,
            verbose,
            mode,
            strict=strict,
            check_finite=check_finite,
            stopping_threshold=stopping_threshold,
            divergence_threshold=divergence_threshold,
            check_on_train_epoch_end=check_on_train_epoch_end,
            log_rank_zero_only=log_rank_zero_only,
        )

    @property
    def monitor_op(self) -> Callable[[Tensor, Tensor], Tensor]:
        """What compares a value with the best one: whether it is better."""
        return self.mode_dict[self.mode]

    def _run_early_stopping_check(self, trainer: Trainer) -> None:
        """Look at the metric now; subclasses call this from a hook of their own."""
        self._check(trainer)
