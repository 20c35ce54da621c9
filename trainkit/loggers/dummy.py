"""A logger that keeps nothing, so that modules may use theirs where nothing is to be written."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from trainkit.loggers.logger import Logger

if TYPE_CHECKING:
    from trainkit.trainer import Trainer


class NoExperiment:
    """Stands for what a logger writes to, such as a ``SummaryWriter``: every method does nothing."""

    def __getattr__(self, name: str) -> Any:
        return _do_nothing


class NoLogger(Logger):
    """What a module finds as ``self.logger`` in a fast dev run, with methods of all loggers, such as ``log_image``."""

    @property
    def experiment(self) -> NoExperiment:
        return NoExperiment()

    @property
    def log_dir(self) -> str:
        return self.save_dir

    def log_metrics(self, metrics: Mapping[str, Any], step: int | None = None) -> None:
        pass

    def setup(self, trainer: Trainer) -> None:
        pass

    def __getattr__(self, name: str) -> Any:
        if name.startswith("log_"):
            return _do_nothing
        raise AttributeError(f"{type(self).__name__} has no attribute {name!r}")


def _do_nothing(*args: Any, **kwargs: Any) -> None:
    return None
