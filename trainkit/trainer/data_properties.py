"""What a Trainer tells of the data of its newest call: the loaders, and how many batches they have."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from trainkit.callbacks.accumulation_schedule import GradientAccumulationScheduler
from trainkit.data.module import DataModule
from trainkit.trainer.arguments import TrainerArguments
from trainkit.trainer.run_length import estimated_updates
from trainkit.trainer.run_properties import RunProperties
from trainkit.types import Stage


class DataProperties(RunProperties):
    """The properties of a `Trainer` that tell of its data. Before a call is connected with its loaders there are none.

    Attributes:
        arguments: What the Trainer was made with.
    """

    arguments: TrainerArguments

    @property
    def datamodule(self) -> DataModule | None:
        """The data module of the running or last call."""
        return self._data.datamodule if self._data is not None else None

    @property
    def num_training_batches(self) -> float:
        """Training batches per epoch; infinite if the loader does not know, or outside a fit."""
        batches = [] if self._data is None else self._data.num_batches("train")
        return batches[0] if batches else math.inf

    @property
    def num_val_batches(self) -> list[float]:
        """Batches of each validation loader."""
        return [] if self._data is None else self._data.num_batches("val")

    @property
    def num_test_batches(self) -> list[float]:
        """Batches of each test loader."""
        return [] if self._data is None else self._data.num_batches("test")

    @property
    def num_predict_batches(self) -> list[float]:
        """Batches of each prediction loader."""
        return [] if self._data is None else self._data.num_batches("predict")

    def predict_batch_indices(self, dataloader_idx: int = 0) -> list[Any] | None:
        """Return the samples' indices in the dataset of the batch that is being predicted.

        Args:
            dataloader_idx: The index of its loader.

        Returns:
            What the sampler gave; None for a loader that has none, and outside of a prediction.
        """
        loaders = self._data.evaluation_loaders("predict") if self.state.fn is Stage.PREDICT and self._data else []
        return loaders[dataloader_idx].known_indices() if loaders else None

    @property
    def num_sanity_val_batches(self) -> list[float]:
        """Batches of each validation loader that are tried ahead of training."""
        return [min(self.num_sanity_val_steps, batches) for batches in self.num_val_batches]

    @property
    def num_sanity_val_steps(self) -> float:
        """How many validation batches are tried ahead of training, at most."""
        return self.arguments.data.sanity_batches

    @property
    def estimated_stepping_batches(self) -> float:
        """How many updates the fit makes if nothing stops it earlier; may be asked in ``configure_optimizers``.

        Of a fit that is resumed, those before count too; of one that counts on from an earlier fit, and makes its
        optimizers anew, they do not. Infinite where nobody knows. Loaders that are made anew are taken to stay as long
        as they are now, and with manual optimization each batch to make an update.
        """
        began = (0, 0) if self._call is None else self._call.began_at
        since = self._epoch_begin() if self.arguments.data.reload_dataloaders_every_n_epochs else began
        updates = estimated_updates(
            self.num_training_batches, self.arguments.stop, self.arguments.data, self._accumulation, since
        )
        return since[1] - began[1] + updates

    @property
    def _accumulation(self) -> Mapping[int, int]:
        """Batches per update, by epoch: a callback has not said it to the run when schedules ask."""
        plugins = [] if self._call is None else [plugin for _, plugin in self._call.registry.plugins]
        given = (plugin.scheduling for plugin in plugins if isinstance(plugin, GradientAccumulationScheduler))
        return next(given, self.arguments.optimization.accumulation)

    def _epoch_begin(self) -> tuple[int, int]:
        """Return how many epochs and updates were done when the running epoch began."""
        progress, schedule = self.progress, self._accumulation
        groups = progress.batch / schedule[max(start for start in schedule if start <= progress.epoch)]
        return progress.epoch, progress.global_step - (math.ceil(groups) if progress.is_last else int(groups))

    @property
    def train_dataloader(self) -> Any:
        """The training loader of the fit, as the run uses it."""
        return None if self._data is None else self._data.loader("train")

    @property
    def val_dataloaders(self) -> Any:
        """The validation loaders."""
        return None if self._data is None else self._data.loader("val")

    @property
    def test_dataloaders(self) -> Any:
        """The test loaders."""
        return None if self._data is None else self._data.loader("test")

    @property
    def predict_dataloaders(self) -> Any:
        """The prediction loaders."""
        return None if self._data is None else self._data.loader("predict")
