"""`QueuedLogger`, the base of loggers that talk to a service: it may be slow or away, and no run waits for it."""

from __future__ import annotations

import json
import os
import threading
from abc import abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from trainkit.checks import number, one_of, takes_numpy, whole
from trainkit.loggers.hparams_yaml import yaml_values
from trainkit.loggers.logger import Logger
from trainkit.loggers.outbox import Outbox
from trainkit.loggers.run_folder import writing

if TYPE_CHECKING:
    from trainkit.loggers.logger import Status
    from trainkit.trainer import Trainer


class QueuedLogger(Logger):
    """Sends rows and hyperparameters from a thread of its own.

    A service that is slow, fails or is away neither stops nor slows a run: rows wait, in memory and then in a temporary
    file, and are tried again in their order. The first failure is a warning. When the run ends they are waited for, and
    what cannot be sent even then is written into ``unsent.jsonl`` in the folder of the run, of which a warning tells.

    A subclass defines ``open_run`` and ``send_row``, and what else it wants of ``send_params``, ``send_file`` and
    ``close_run``. All are called in that thread, one at a time, in the order in which things were logged.

    Args:
        save_dir: As for `Logger`.
        name: As for `Logger`.
        version: As for `Logger`.
        prefix: As for `Logger`.
        log_model: Which checkpoints to send when the run ends: the ``"best"`` of each `ModelCheckpoint`, ``"all"`` that
            are kept, or none.
        most_waiting: How many rows wait in memory.
        patience_s: How many seconds to wait for the service when the run ends.

    Raises:
        ConfigError: If an argument is not usable.
    """

    makes_folder: ClassVar[bool] = True  # by it, and a mark in it, a run that goes on is known to be this one

    @takes_numpy
    def __init__(
        self,
        save_dir: str | os.PathLike[str] | None = None,
        name: str | None = "trainkit_logs",
        version: int | str | None = None,
        *,
        prefix: str = "",
        log_model: Literal["best", "all"] | None = None,
        most_waiting: int = 10_000,
        patience_s: float = 60.0,
    ) -> None:
        super().__init__(save_dir, name, version, prefix=prefix)
        where = type(self).__name__
        whole("most_waiting", most_waiting, at_least=1, where=where)
        number("patience_s", patience_s, at_least=0, finite=True, where=where)
        if log_model is not None:
            one_of("log_model", log_model, ("best", "all"), where)
        self.patience_s = patience_s
        self.log_model = log_model
        self._trainer: Trainer | None = None  # of the running call
        self._outbox = Outbox(self._dispatch, most=most_waiting)
        self._opened = threading.Event()
        self._has_sent = False

    # What a subclass overrides

    @abstractmethod
    def open_run(self) -> None:
        """Connect, and begin the run or go on with it. Called ahead of the first row; again if it fails."""

    @abstractmethod
    def send_row(self, metrics: dict[str, float], step: int) -> None:
        """Send one row. Called again with the same one if it fails."""

    def send_params(self, params: dict[str, Any]) -> None:
        """Send hyperparameters: numbers, texts, lists and dicts."""

    def send_file(self, path: str, aliases: list[str]) -> None:
        """Send a file of the run, such as a checkpoint that is its best."""

    def close_run(self, status: Status) -> None:
        """Say that the run has ended. Called last, and not where nothing was sent."""

    def wait_until_open(self) -> bool:
        """Wait until `open_run` has succeeded, for ``patience_s`` at most; return whether it has."""
        self._put({})
        return self._opened.wait(self.patience_s)

    # What the rest of trainkit calls

    def setup(self, trainer: Trainer) -> None:
        super().setup(trainer)
        self._outbox.problem = ""
        self._trainer = trainer

    def log_metrics(self, metrics: Mapping[str, Any], step: int | None = None) -> None:
        if self.writes:
            self._put({"row": self.row_of(metrics), "step": self.step_of(step)})

    def log_hyperparams(self, params: Mapping[str, Any]) -> None:
        if self.writes:
            self._put({"params": yaml_values(params)})

    def finalize(self, status: Status) -> None:
        trainer, self._trainer = self._trainer, None
        if not (self.writes and self._has_sent):
            return
        for path, aliases in self._kept(trainer).items() if trainer is not None else ():
            self._put({"file": path, "aliases": aliases})
        self._put({"status": status})
        unsent = [item for item in self._outbox.finish(self.patience_s) if "status" not in item]
        self._has_sent = False
        self._opened.clear()
        if unsent:
            self._keep(unsent)

    def _keep(self, unsent: list[Any]) -> None:
        """Write what could not be sent into a file, and tell so."""
        kept = Path(self.log_dir, "unsent.jsonl")
        with writing(kept):
            kept.parent.mkdir(parents=True, exist_ok=True)
            with open(kept, "a", encoding="utf-8") as file:
                file.writelines(f"{json.dumps(item)}\n" for item in unsent)
        self._has_told = False  # where they are is told in any case
        why = self._outbox.problem or "no answer"
        self.tell(f"{len(unsent)} rows could not be sent in {self.patience_s:g} s ({why}). They are in {kept}.")

    def _kept(self, trainer: Trainer) -> dict[str, list[str]]:
        """Return the checkpoints to send, and what each is called."""
        found: dict[str, list[str]] = {}
        for callback in trainer.checkpoint_callbacks if self.log_model else ():
            callback.finish_write(trainer)
            for path in callback.best_k_models if self.log_model == "all" else ():
                found.setdefault(path, [])
            for path, alias in ((callback.best_model_path, "best"), (callback.last_model_path, "latest")):
                if path and (alias == "best" or self.log_model == "all"):
                    found.setdefault(path, []).append(alias)
        return {path: aliases for path, aliases in found.items() if os.path.exists(path)}

    def _put(self, item: dict[str, Any]) -> None:
        self._has_sent = True
        self._outbox.put(item)
        if self._outbox.problem:
            self.tell(f"{self._outbox.problem}. The run goes on, and what it logs is sent when that is possible.")

    def _dispatch(self, item: dict[str, Any]) -> None:
        """Send one item of the outbox; in its thread."""
        if not self._opened.is_set():
            self.open_run()
            self._opened.set()
        if "row" in item:
            self.send_row(item["row"], item["step"])
        elif "params" in item:
            self.send_params(item["params"])
        elif "file" in item:
            self.send_file(item["file"], item["aliases"])
        elif "status" in item:
            self.close_run(item["status"])
