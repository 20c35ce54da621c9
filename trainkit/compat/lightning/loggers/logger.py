"""`Logger`: the base of loggers that were written for Lightning."""

from __future__ import annotations

import functools
import os
from abc import abstractmethod
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, ClassVar

from trainkit.compat.lightning.binding import takes_all
from trainkit.compat.lightning.callbacks.callback import Callback
from trainkit.compat.lightning.rank_zero import rank, rank_zero_only
from trainkit.loggers import logger as core
from trainkit.loggers.dummy import DummyExperiment, DummyLogger
from trainkit.loggers.logger import Status

if TYPE_CHECKING:
    from trainkit.trainer import Trainer

__all__ = ["DummyLogger", "Logger", "rank_zero_experiment", "rank_zero_only"]


@takes_all
class Logger(core.Logger, Callback):
    """A logger with a name and a version of its own, and a folder only if it overrides ``save_dir``.

    A subclass needs ``name``, ``version`` and ``log_metrics``, and need not call ``super().__init__``.
    """

    prefix = ""
    _status: Status = "success"
    _newest_step = 0
    _root = os.curdir

    LOGGER_JOIN_CHAR: ClassVar[str] = "-"

    def __init__(self) -> None:
        """Take no arguments: a folder is the affair of the subclass."""

    @property
    @abstractmethod
    def name(self) -> Any:
        """The name of the experiment."""

    @property
    @abstractmethod
    def version(self) -> Any:
        """The run among those of the experiment."""

    @property
    def save_dir(self) -> Any:
        """The folder of all experiments; None if nothing is written to disk."""
        return None

    @property
    def root_dir(self) -> Any:
        """The same, in Lightning's second word."""
        return self.save_dir

    @property
    def log_dir(self) -> Any:
        """The folder of the run, in which checkpoints go: below ``default_root_dir`` if there is no ``save_dir``."""
        version = self.version
        parts = (self.name, version if isinstance(version, str) else f"version_{version}")
        return os.path.join(self.save_dir or self._root, *(str(part) for part in parts if part is not None))

    def default_to(self, root_dir: str | os.PathLike[str]) -> None:
        """Take ``root_dir`` for what is to be saved by others; where the logger writes, the subclass decides."""
        self._root = os.fspath(root_dir)

    def continue_from(self, checkpoint: str | os.PathLike[str]) -> bool:
        """Change nothing: which version this is, the subclass decides."""
        return False

    @property
    def group_separator(self) -> str:
        """What stands between a prefix of several metrics and their names."""
        return "/"

    def after_save_checkpoint(self, checkpoint_callback: Any) -> None:
        """Called when a ``ModelCheckpoint`` of this package has saved a file, or has begun to."""

    def log_graph(self, model: Any, input_array: Any = None) -> None:
        """Draw a module; does nothing until a subclass overrides it."""

    def setup(self, trainer: Trainer) -> None:
        self.writes = trainer.is_global_zero


def rank_zero_experiment(function: Callable[..., Any]) -> Callable[..., Any]:
    """Return ``function``, a logger's ``experiment``, as one that gives on other ranks what does nothing."""

    @functools.wraps(function)
    def experiment(self: Any) -> Any:
        return function(self) or DummyExperiment() if rank() == 0 else DummyExperiment()

    return experiment
