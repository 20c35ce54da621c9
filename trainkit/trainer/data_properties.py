"""What a Trainer tells of the data of its newest call: the loaders, and how many batches they have."""

from __future__ import annotations

import math
from typing import Any

from trainkit.data.meter import Meter
from trainkit.data.module import DataModule
from trainkit.trainer.arguments import TrainerArguments
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

    @property
    def batch_meters(self) -> list[Meter]:
        """What measures how training comes by its batches; what is added here joins at the next pass."""
        return [] if self._data is None else self._data.meters

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
