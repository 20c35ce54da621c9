"""``trainer.fit_loop``: the limits and counters that programs reach through Lightning's loops."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Never

from trainkit.errors import UnsupportedAttributeError

if TYPE_CHECKING:
    from trainkit.compat.lightning.trainer.trainer import Trainer

LIMITS = ("max_epochs", "min_epochs", "max_steps", "min_steps")


class FitLoop:
    """The limits of a Trainer's fits, which may be set, and its counters; trainkit's own loop is a function.

    Args:
        trainer: Whose they are.
    """

    trainer: Trainer
    max_epochs: int
    min_epochs: int | None
    max_steps: int
    min_steps: int | None

    def __init__(self, trainer: Trainer) -> None:
        self.__dict__["trainer"] = trainer

    @property
    def epoch_loop(self) -> FitLoop:
        """The same object, which has the limits and counters of both loops."""
        return self

    @property
    def epoch_progress(self) -> EpochProgress:
        """How many epochs are done."""
        return EpochProgress(self.trainer)

    @property
    def global_step(self) -> int:
        """Optimizer updates so far."""
        return self.trainer.global_step

    def setup_data(self) -> None:
        """Do nothing: the loaders are known before ``configure_optimizers`` is called."""

    def __getattr__(self, name: str) -> Any:
        if name in LIMITS:
            return getattr(self.trainer, name)
        self._refuse(name)

    def __setattr__(self, name: str, value: Any) -> None:
        if name not in LIMITS:
            self._refuse(name)
        setattr(self.trainer, name, value)

    def _refuse(self, name: str) -> Never:
        raise UnsupportedAttributeError(
            f"Trainer.fit_loop.{name}",
            "trainer.progress, trainer.current_epoch and the batch_idx of hooks for counters; "
            f"of limits there are {', '.join(LIMITS)}",
        )


class EpochProgress:
    """How many epochs are done, in Lightning's words.

    Args:
        trainer: Whose epochs.
    """

    def __init__(self, trainer: Trainer) -> None:
        self.completed = self.processed = trainer.current_epoch

    @property
    def current(self) -> EpochProgress:
        """The same: epochs are counted over the whole run."""
        return self

    @property
    def total(self) -> EpochProgress:
        """The same: epochs are counted over the whole run."""
        return self
