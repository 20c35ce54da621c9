"""`TensorBoardLogger` with Lightning's arguments."""

from __future__ import annotations

import os
import warnings
from argparse import Namespace
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from trainkit.checks import takes_numpy
from trainkit.errors import ConfigError
from trainkit.loggers.tensorboard import logger as core

if TYPE_CHECKING:
    from trainkit.module import TrainModule


class TensorBoardLogger(core.TensorBoardLogger):
    """trainkit's `TensorBoardLogger`, under ``lightning_logs``; see `trainkit.callbacks.TensorBoardLogger`.

    Args:
        save_dir: The folder of all experiments.
        name: The folder of this experiment within it.
        version: The run: a number N for ``version_N``, or a folder's whole name.
        log_graph: Whether to draw the module when a fit starts; needs ``module.example_input_array``.
        default_hp_metric: Accepted: hyperparameters are shown beside every curve.
        prefix: Put before the names of metrics.
        sub_dir: Must be None; a name may have a ``/`` in it.
        flush_secs: Seconds after which a new row can be seen.
        writer_options: Accepted: other options of ``SummaryWriter``.
    """

    @takes_numpy
    def __init__(
        self,
        save_dir: str | os.PathLike[str] | None = None,
        name: str | None = "lightning_logs",
        version: int | str | None = None,
        log_graph: bool = False,
        default_hp_metric: bool = True,
        prefix: str = "",
        sub_dir: str | os.PathLike[str] | None = None,
        flush_secs: float = 30.0,
        **writer_options: Any,
    ) -> None:
        if sub_dir is not None:
            raise ConfigError(f"sub_dir={sub_dir!r} is not supported. Put it into the name: name='name/{sub_dir}'.")
        super().__init__(save_dir, name, version, prefix=prefix, flush_secs=flush_secs)
        self._log_graph = log_graph

    def log_hyperparams(
        self,
        params: Mapping[str, Any] | Namespace,
        metrics: Mapping[str, Any] | None = None,
        step: int | None = None,
    ) -> None:
        super().log_hyperparams(vars(params) if isinstance(params, Namespace) else params, metrics)

    def log_graph(self, model: TrainModule, input_array: Any = None) -> None:
        """Draw ``model``, as ``forward`` goes through it with ``input_array`` or its ``example_input_array``."""
        example = model.example_input_array if input_array is None else input_array
        if self.writes and example is not None:
            with warnings.catch_warnings():
                # TensorBoard's writer traces with what torch has deprecated.
                warnings.simplefilter("ignore", FutureWarning)
                self.experiment.add_graph(model, example)

    def on_fit_start(self, trainer: Any, module: TrainModule) -> None:
        super().on_fit_start(trainer, module)
        if self._log_graph and not trainer.ckpt_path:
            self.log_graph(module)

    def on_train_start(self, trainer: Any, module: TrainModule) -> None:
        super().on_train_start(trainer, module)
        # A run that has nothing left to train when it goes on does not come here, and changes no file.
        if self._log_graph and trainer.ckpt_path:
            self.log_graph(module)
