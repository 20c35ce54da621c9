"""`CSVLogger` with Lightning's arguments."""

from __future__ import annotations

import os
from argparse import Namespace
from collections.abc import Mapping
from typing import Any

from trainkit.checks import takes_numpy
from trainkit.loggers import csv as core


class CSVLogger(core.CSVLogger):
    """trainkit's `CSVLogger`, under ``lightning_logs``; see `trainkit.callbacks.CSVLogger`."""

    @takes_numpy
    def __init__(
        self,
        save_dir: str | os.PathLike[str] | None = None,
        name: str | None = "lightning_logs",
        version: int | str | None = None,
        prefix: str = "",
        flush_logs_every_n_steps: int = 100,
    ) -> None:
        super().__init__(save_dir, name, version, prefix=prefix, flush_logs_every_n_steps=flush_logs_every_n_steps)

    def log_hyperparams(self, params: Mapping[str, Any] | Namespace) -> None:
        super().log_hyperparams(vars(params) if isinstance(params, Namespace) else params)

    @property
    def experiment(self) -> ExperimentWriter:
        """What writes the table, by Lightning's names."""
        return ExperimentWriter(self)


class ExperimentWriter:
    """Stands for the object that writes the table of a `CSVLogger`.

    Args:
        logger: Whose table.
    """

    def __init__(self, logger: CSVLogger) -> None:
        self._logger = logger

    @property
    def log_dir(self) -> str:
        """The folder of the run."""
        return self._logger.log_dir

    @property
    def metrics_file_path(self) -> str:
        """Where the table is."""
        return str(self._logger.metrics_file)

    def log_metrics(self, metrics_dict: Mapping[str, Any], step: int | None = None) -> None:
        """Add a row."""
        self._logger.log_metrics(metrics_dict, step)

    def log_hparams(self, params: Mapping[str, Any]) -> None:
        """Keep hyperparameters."""
        self._logger.log_hyperparams(params)

    def save(self) -> None:
        """Write what waits."""
        self._logger.save()
