"""Writing predictions batch by batch, or all at the end of an epoch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal, get_args

from trainkit.checks import one_of
from trainkit.errors import ModuleError
from trainkit.hooks.callback import Callback
from trainkit.reflection import overrides
from trainkit.types import Batch

if TYPE_CHECKING:
    from trainkit.module import TrainModule
    from trainkit.trainer import Trainer

WriteInterval = Literal["batch", "epoch", "batch_and_epoch"]


class PredictionWriter(Callback):
    """Passes predictions to methods that a subclass defines; use it with ``trainer.predict(return_predictions=False)``.

    With several ranks each one writes what it predicted; ``batch_indices`` tell which samples these are.

    Args:
        write_interval: Which of `write_on_batch_end` and `write_on_epoch_end` are called: ``"batch"``, ``"epoch"`` or
            ``"batch_and_epoch"``. For an epoch all predictions are kept in memory.

    Raises:
        UnknownNameError: If there is no such interval.
        ModuleError: If a method that would be called is not defined.
    """

    def __init__(self, write_interval: WriteInterval = "batch") -> None:
        # The methods of this class do nothing: predictions that nobody writes would be found missing after the run.
        one_of("write_interval", write_interval, get_args(WriteInterval), type(self).__name__)
        for method, is_called in (
            ("write_on_batch_end", write_interval != "epoch"),
            ("write_on_epoch_end", write_interval != "batch"),
        ):
            if is_called and not overrides(self, method, PredictionWriter):
                raise ModuleError(
                    f"{type(self).__name__}(write_interval={write_interval!r}) has to define {method}, which is called."
                )
        self.interval = write_interval
        self._predictions: list[list[Any]] = []
        self._indices: list[list[list[int] | None]] = []

    def write_on_batch_end(
        self,
        trainer: Trainer,
        module: TrainModule,
        prediction: Any,
        batch_indices: list[int] | None,
        batch: Batch,
        batch_idx: int,
        dataloader_idx: int,
    ) -> None:
        """Write one batch.

        Args:
            trainer: The Trainer.
            module: The module.
            prediction: What ``predict_step`` returned.
            batch_indices: The samples' indices in the dataset; None for a loader without a sampler.
            batch: The batch.
            batch_idx: Its index.
            dataloader_idx: The index of its loader.
        """

    def write_on_epoch_end(
        self, trainer: Trainer, module: TrainModule, predictions: Sequence[Any], batch_indices: Sequence[Any]
    ) -> None:
        """Write the predictions of all batches at once.

        Args:
            trainer: The Trainer.
            module: The module.
            predictions: What ``predict_step`` returned for each batch; with several loaders one such list per loader.
            batch_indices: One list per loader, with the indices of the samples of each batch as above.
        """

    def on_predict_start(self, trainer: Trainer) -> None:
        self._predictions = [[] for _ in trainer.num_predict_batches]
        self._indices = [[] for _ in trainer.num_predict_batches]

    def on_predict_batch_end(
        self, trainer: Trainer, module: TrainModule, outputs: Any, batch: Batch, batch_idx: int, dataloader_idx: int
    ) -> None:
        indices = trainer.predict_batch_indices(dataloader_idx)
        if self.interval != "epoch":
            self.write_on_batch_end(trainer, module, outputs, indices, batch, batch_idx, dataloader_idx)
        if self.interval != "batch":
            self._predictions[dataloader_idx].append(outputs)
            self._indices[dataloader_idx].append(indices)

    def on_predict_epoch_end(self, trainer: Trainer, module: TrainModule) -> None:
        if self.interval != "batch":
            predictions = self._predictions[0] if len(self._predictions) == 1 else self._predictions
            self.write_on_epoch_end(trainer, module, predictions, self._indices)
        # Predictions of a whole epoch may be large; the callback lives on with its Trainer.
        self._predictions, self._indices = [], []
