"""`DataModule`: the datasets and loaders of a run in one class, separate from the model."""

from __future__ import annotations

import os
from functools import partial
from typing import TYPE_CHECKING, Any, Self

import torch
from torch.utils.data import DataLoader, IterableDataset

from trainkit.batch.transfer import TransferHooks
from trainkit.checks import file_path
from trainkit.errors import DataError
from trainkit.module.class_only import class_only
from trainkit.module.from_checkpoint import constructor_arguments, read_hparams
from trainkit.module.hparams import HyperparametersMixin

if TYPE_CHECKING:
    from trainkit.trainer import Trainer


class DataModule(HyperparametersMixin, TransferHooks):
    """Prepares data and makes loaders. Subclass it and pass it as ``trainer.fit(module, datamodule=...)``.

    A run calls ``prepare_data``, then ``setup``, then the ``..._dataloader`` methods that it needs. Transfer hooks that
    the data module overrides are called instead of those of the module.

    Attributes:
        trainer: The Trainer during a run; None outside.
    """

    trainer: Trainer | None = None
    # Keeps its hyperparameters apart from the module's, in the one checkpoint that holds both.
    _hparams_prefix = "datamodule_"

    def prepare_data(self) -> None:
        """Download or write to disk what ``setup`` will read.

        Called in one process of each machine only, so attributes that are set here are missing in the others.
        """

    def setup(self, stage: str) -> None:
        """Make the datasets for ``stage`` (``fit``, ``validate``, ``test``, ``predict``). Called in every process.

        Random numbers are those of rank 0 in every process, so that a random split is the same in all.
        """

    def teardown(self, stage: str) -> None:
        """Release what ``setup`` acquired. Called after an exception too."""

    def train_dataloader(self) -> Any:
        """Return the training loader: any iterable of batches, or a dict or list of loaders."""
        raise self._lacks("train_dataloader")

    def val_dataloader(self) -> Any:
        """Return the validation loader, or a list of them."""
        raise self._lacks("val_dataloader")

    def test_dataloader(self) -> Any:
        """Return the test loader, or a list of them."""
        raise self._lacks("test_dataloader")

    def predict_dataloader(self) -> Any:
        """Return the loader to predict, or a list of them."""
        raise self._lacks("predict_dataloader")

    def state_dict(self) -> dict[str, Any]:
        """Return the state that goes into a checkpoint: tensors and plain containers. Empty by default."""
        return {}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore the state that `state_dict` returned, when a fit resumes. Not called with an empty state."""

    def on_exception(self, exception: BaseException) -> None:
        """Called when an exception has ended the run, before ``teardown``."""

    @class_only
    def load_from_checkpoint(
        cls,
        checkpoint_path: str | os.PathLike[str],
        map_location: Any = None,
        hparams_file: str | os.PathLike[str] | None = None,
        weights_only: bool | None = True,
        **overrides: Any,
    ) -> Self:
        """Build the data module from the hyperparameters that it had when a checkpoint was saved.

        Args:
            checkpoint_path: The file.
            map_location: Accepted because Lightning has it; a data module has no tensors to place.
            hparams_file: A YAML file of hyperparameters; it replaces those saved.
            weights_only: Accepted because Lightning has it; checkpoints are always read safely.
            overrides: Constructor arguments that replace the saved ones.

        Raises:
            CheckpointError: If an argument is missing.
        """
        from trainkit.storage.files import read_checkpoint

        file_path(f"{cls.__name__}.load_from_checkpoint", optional=False, checkpoint_path=checkpoint_path)
        checkpoint = read_checkpoint(checkpoint_path, map_location="cpu")
        if hparams_file is not None:
            checkpoint |= read_hparams(cls, hparams_file)
        return cls(**constructor_arguments(cls, checkpoint, overrides))

    @classmethod
    def from_datasets(
        cls,
        train_dataset: Any = None,
        val_dataset: Any = None,
        test_dataset: Any = None,
        predict_dataset: Any = None,
        batch_size: int = 1,
        num_workers: int = 0,
        **arguments: Any,
    ) -> Self:
        """Make a data module from datasets. Only the training set is shuffled.

        Args:
            train_dataset: A dataset, or a list or dict of them, which gives a list or dict of loaders.
            val_dataset: A dataset or a list of them.
            test_dataset: A dataset or a list of them.
            predict_dataset: A dataset or a list of them.
            batch_size: Samples per batch.
            num_workers: Worker processes per loader.
            arguments: Arguments of the constructor of the class.
        """
        datamodule = cls(**arguments)
        given = {"train": train_dataset, "val": val_dataset, "test": test_dataset, "predict": predict_dataset}
        for name, dataset in given.items():
            if dataset is not None:
                make = partial(_loaders, dataset, name == "train", batch_size, num_workers)
                setattr(datamodule, f"{name}_dataloader", make)
        return datamodule

    def _lacks(self, method: str) -> DataError:
        """Return the error for a loader method that the subclass does not define."""
        return DataError(f"{type(self).__name__} does not define {method}(self), which this run needs.")

    def __getstate__(self) -> dict[str, Any]:
        # A copy or a pickle, such as the one that a worker process gets, is the data alone, without the Trainer.
        return {name: value for name, value in self.__dict__.items() if name != "trainer"}


def _loaders(datasets: Any, shuffle: bool, batch_size: int, num_workers: int) -> Any:
    """Return a loader for each dataset, in lists and dicts as the datasets are."""
    if isinstance(datasets, dict):
        return {name: _loaders(dataset, shuffle, batch_size, num_workers) for name, dataset in datasets.items()}
    if isinstance(datasets, list | tuple):
        return [_loaders(dataset, shuffle, batch_size, num_workers) for dataset in datasets]
    return DataLoader(
        datasets,
        batch_size=batch_size,
        shuffle=shuffle and not isinstance(datasets, IterableDataset),  # DataLoader refuses to shuffle a stream
        num_workers=num_workers,
        pin_memory=torch.cuda.is_available(),
    )
