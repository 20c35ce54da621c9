"""`ModelCheckpoint` with Lightning's arguments."""

from __future__ import annotations

import os
from datetime import timedelta
from typing import TYPE_CHECKING, Literal

from omegaconf import OmegaConf

from trainkit.callbacks.model_checkpoint import callback as core
from trainkit.callbacks.monitor import Mode
from trainkit.checks import takes_numpy
from trainkit.compat.lightning.binding import takes_all
from trainkit.compat.lightning.callbacks.checkpoint import Checkpoint
from trainkit.storage.files import checkpoint_exists
from trainkit.types import Stage

if TYPE_CHECKING:
    from trainkit.trainer import Trainer


@takes_all
class ModelCheckpoint(core.ModelCheckpoint, Checkpoint):
    """trainkit's `ModelCheckpoint`, with its arguments in Lightning's order.

    Args:
        dirpath: See `trainkit.callbacks.ModelCheckpoint` for this and all others but one.
        filename: See there.
        monitor: See there.
        verbose: See there.
        save_last: See there.
        save_top_k: See there.
        save_on_exception: Save a checkpoint when an exception ends the fit. It is taken in the middle of a batch, whose
            random numbers are spent. For Ctrl-C and signals trainkit saves a whole one anyway.
        save_weights_only: See there.
        mode: See there.
        auto_insert_metric_name: See there.
        every_n_train_steps: See there.
        train_time_interval: See there.
        every_n_epochs: See there.
        save_on_train_epoch_end: See there.
        enable_version_counter: See there.
    """

    @takes_numpy
    def __init__(
        self,
        dirpath: str | os.PathLike[str] | None = None,
        filename: str | None = None,
        monitor: str | None = None,
        verbose: bool = False,
        save_last: bool | Literal["link"] | None = None,
        save_top_k: int = 1,
        save_on_exception: bool = False,
        save_weights_only: bool = False,
        mode: Mode = "min",
        auto_insert_metric_name: bool = True,
        every_n_train_steps: int | None = None,
        train_time_interval: timedelta | None = None,
        every_n_epochs: int | None = None,
        save_on_train_epoch_end: bool | None = None,
        enable_version_counter: bool = True,
    ) -> None:
        super().__init__(
            dirpath,
            filename,
            monitor,
            verbose,
            save_last,
            save_top_k,
            save_weights_only,
            mode,
            auto_insert_metric_name=auto_insert_metric_name,
            every_n_train_steps=every_n_train_steps,
            train_time_interval=train_time_interval,
            every_n_epochs=every_n_epochs,
            save_on_train_epoch_end=save_on_train_epoch_end,
            enable_version_counter=enable_version_counter,
        )
        self.save_on_exception = save_on_exception

    def on_exception(self, trainer: Trainer, exception: BaseException) -> None:
        if self.save_on_exception and isinstance(exception, Exception) and trainer.state.fn == Stage.FIT:
            values = {**trainer.callback_metrics, "epoch": trainer.current_epoch, "step": trainer.global_step}
            trainer.save_checkpoint(self.format_checkpoint_name(values), self.save_weights_only)

    @property
    def every_n_epochs(self) -> int | None:
        """From how many epochs one is used."""
        return self._triggers.every_n_epochs

    def file_exists(self, filepath: str | os.PathLike[str], trainer: Trainer) -> bool:
        """Return whether there is a checkpoint at ``filepath``; all ranks are told what rank 0 sees."""
        exists: bool = trainer.strategy.broadcast_object(checkpoint_exists(os.fspath(filepath)))
        return exists

    def to_yaml(self, filepath: str | os.PathLike[str] | None = None) -> None:
        """Write the paths of the kept checkpoints and their scores, by default as ``best_k_models.yaml``."""
        path = os.path.join(self.dirpath or "", "best_k_models.yaml") if filepath is None else filepath
        scores = {path: score.item() for path, score in self.best_k_models.items()}
        OmegaConf.save(OmegaConf.create(scores), os.fspath(path))

    def _save_if_due(self, trainer: Trainer) -> None:
        before = self._saved_step
        super()._save_if_due(trainer)
        if self._saved_step != before:
            for logger in trainer.loggers:
                if hasattr(logger, "after_save_checkpoint"):
                    logger.after_save_checkpoint(self)
