"""`CSVLogger` with Lightning's arguments."""

from __future__ import annotations

import os
from argparse import Namespace
from collections.abc import Mapping
from typing import Any

from trainkit.callbacks import csv_logger as core


class CSVLogger(core.CSVLogger):
    """trainkit's `CSVLogger`, under ``lightning_logs``; see `trainkit.callbacks.CSVLogger`."""

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
