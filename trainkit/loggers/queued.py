"""`QueuedLogger`, the base of loggers that talk to a service: it may be slow or away, and no run waits for it."""

from __future__ import annotations

import json
import os
from abc import abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trainkit.checks import number, whole
from trainkit.loggers.hparams_yaml import yaml_values
from trainkit.loggers.logger import Logger
from trainkit.loggers.outbox import Outbox

if TYPE_CHECKING:
    from trainkit.loggers.logger import Status
    from trainkit.trainer import Trainer


class QueuedLogger(Logger):
    """Sends rows and hyperparameters from a thread of its own.

    A service that is slow, fails or is away neither stops nor slows a run: rows wait, in memory and then in a temporary
    file, and are tried again in their order. The first failure is a warning. When the run ends they are waited for, and
    what cannot be sent even then is written into ``unsent.jsonl`` in the folder of the run, of which a warning tells.

    A subclass defines ``open_run``, ``send_row`` and ``close_run``, which are called in that thread, in this order.

    Args:
        save_dir: As for `Logger`.
        name: As for `Logger`.
        version: As for `Logger`.
        prefix: As for `Logger`.
        most_waiting: How many rows wait in memory.
        patience_s: How many seconds to wait for the service when the run ends.

    Raises:
        ConfigError: If an argument is not usable.
    """

    def __init__(
        self,
        save_dir: str | os.PathLike[str] | None = None,
        name: str | None = "trainkit_logs",
        version: int | str | None = None,
        *,
        prefix: str = "",
        most_waiting: int = 10_000,
        patience_s: float = 60.0,
    ) -> None:
        super().__init__(save_dir, name, version, prefix=prefix)
        where = type(self).__name__
        whole("most_waiting", most_waiting, at_least=1, where=where)
        number("patience_s", patience_s, at_least=0, finite=True, where=where)
        self.patience_s = patience_s
        self._outbox = Outbox(self._dispatch, most=most_waiting)
        self._is_open = self._has_sent = False

    # What a subclass overrides

    @abstractmethod
    def open_run(self) -> None:
        """Connect, and begin the run or go on with it. Called ahead of the first row; again if it fails."""

    @abstractmethod
    def send_row(self, metrics: dict[str, float], step: int) -> None:
        """Send one row. Called again with the same one if it fails."""

    def send_params(self, params: dict[str, Any]) -> None:
        """Send hyperparameters: numbers, texts, lists and dicts."""

    def close_run(self, status: Status) -> None:
        """Say that the run has ended. Called last, and not where nothing was sent."""

    # What the rest of trainkit calls

    def setup(self, trainer: Trainer) -> None:
        super().setup(trainer)
        self._outbox.problem = ""

    def log_metrics(self, metrics: Mapping[str, Any], step: int | None = None) -> None:
        if self.writes:
            self._put({"row": self.row_of(metrics), "step": self.step_of(step)})

    def log_hyperparams(self, params: Mapping[str, Any]) -> None:
        if self.writes:
            self._put({"params": yaml_values(params)})

    def finalize(self, status: Status) -> None:
        if not (self.writes and self._has_sent):
            return
        self._put({"status": status})
        unsent = [item for item in self._outbox.finish(self.patience_s) if "status" not in item]
        self._has_sent = self._is_open = False
        if unsent:
            path = Path(self.log_dir, "unsent.jsonl")
            path.parent.mkdir(parents=True, exist_ok=True)
            with open(path, "a", encoding="utf-8") as file:
                file.writelines(f"{json.dumps(item)}\n" for item in unsent)
            self._has_told = False  # where they are is told in any case
            why = self._outbox.problem or "no answer"
            self.tell(f"{len(unsent)} rows could not be sent in {self.patience_s:g} s ({why}). They are in {path}.")

    def _put(self, item: dict[str, Any]) -> None:
        self._has_sent = True
        self._outbox.put(item)
        if self._outbox.problem:
            self.tell(f"{self._outbox.problem}. The run goes on, and what it logs is sent when that is possible.")

    def _dispatch(self, item: dict[str, Any]) -> None:
        """Send one item of the outbox; in its thread."""
        if not self._is_open:
            self.open_run()
            self._is_open = True
        if "row" in item:
            self.send_row(item["row"], item["step"])
        elif "params" in item:
            self.send_params(item["params"])
        else:
            self.close_run(item["status"])
