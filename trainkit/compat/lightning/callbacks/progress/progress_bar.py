"""`ProgressBar`, with what Lightning's subclasses use of theirs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from trainkit.callbacks.progress_bar import callback as core
from trainkit.checks import takes_numpy
from trainkit.compat.lightning.binding import takes_all
from trainkit.compat.lightning.callbacks.callback import Callback
from trainkit.compat.lightning.callbacks.progress.silent_bar import SilentBar
from trainkit.errors import NotAttachedError

if TYPE_CHECKING:
    from trainkit.module import TrainModule
    from trainkit.trainer import Trainer


@takes_all
class ProgressBar(core.ProgressBar, Callback):
    """The base of progress bars. It draws nothing by itself; a subclass may print in its hooks.

    What stands beside trainkit's bar may be changed by overriding `get_metrics`.

    Args:
        refresh_rate: Look whether a refresh of trainkit's bar is due after so many batches; 0 draws none.
        leave: Whether the bar of each epoch stays when the next one begins.
    """

    train_progress_bar = val_progress_bar = test_progress_bar = predict_progress_bar = SilentBar()
    main_progress_bar = val_sanity_check_bar = progress = SilentBar()

    @takes_numpy
    def __init__(self, refresh_rate: int = 0, leave: bool = False) -> None:
        super().__init__(refresh_rate, leave)

    def _init_bar(self) -> SilentBar:
        """Return what takes whatever a bar of tqdm takes."""
        return SilentBar()

    init_sanity_tqdm = init_train_tqdm = init_validation_tqdm = init_test_tqdm = init_predict_tqdm = _init_bar

    @property
    def trainer(self) -> Trainer:
        """The Trainer of the run."""
        if self._trainer is None:
            raise NotAttachedError(f"{type(self).__name__} is in no run yet.")
        return self._trainer

    @property
    def is_enabled(self) -> bool:
        """Whether anything is shown."""
        return self.refresh_rate > 0

    @property
    def is_disabled(self) -> bool:
        """Whether nothing is shown."""
        return not self.is_enabled

    @property
    def total_train_batches(self) -> float:
        """Training batches per epoch."""
        return self.trainer.num_training_batches

    @property
    def total_val_batches(self) -> float:
        """Validation batches of all loaders."""
        return sum(self.trainer.num_val_batches)

    @property
    def total_test_batches(self) -> float:
        """Test batches of all loaders."""
        return sum(self.trainer.num_test_batches)

    @property
    def total_predict_batches(self) -> float:
        """Prediction batches of all loaders."""
        return sum(self.trainer.num_predict_batches)

    def disable(self) -> None:
        """Show nothing in the next run."""
        self.refresh_rate = 0

    def enable(self) -> None:
        """Show something in the next run."""
        self.refresh_rate = self.refresh_rate or 1

    def print(self, *args: Any, **kwargs: Any) -> None:
        """Print beside the bar, on rank 0."""
        self.trainer.print(*args, **kwargs)

    def get_metrics(self, trainer: Trainer, pl_module: TrainModule) -> dict[str, Any]:
        """Return what stands beside the bar: numbers, or tensors with one element. Text is left out."""
        return dict(trainer.progress_bar_metrics)

    def shown_metrics(self, trainer: Trainer) -> Mapping[str, Tensor]:
        assert trainer.module is not None, "a progress bar is drawn in a run"
        metrics = self.get_metrics(trainer, trainer.module)
        return {name: torch.as_tensor(value) for name, value in metrics.items() if not isinstance(value, str)}

    def setup(self, trainer: Trainer) -> None:
        self._trainer = trainer
        super().setup(trainer)
