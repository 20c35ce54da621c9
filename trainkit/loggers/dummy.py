"""A logger that writes nothing, for runs in which ``self.logger`` must work and no file may be written."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from trainkit.loggers.logger import Logger

if TYPE_CHECKING:
    from trainkit.trainer import Trainer


class DummyExperiment:
    """Stands in for the object behind a logger, such as a ``SummaryWriter``. It has every method; all do nothing."""

    def __getattr__(self, name: str) -> Any:
        return _do_nothing


class DummyLogger(Logger):
    """The logger of a fast dev run. It has the methods of all loggers, such as ``log_image``, and they do nothing."""

    @property
    def experiment(self) -> DummyExperiment:
        return DummyExperiment()

    @property
    def log_dir(self) -> str:
        # No version_N: nothing is written, so there will be no such folder.
        return self.save_dir

    def log_metrics(self, metrics: Mapping[str, Any], step: int | None = None) -> None:
        pass

    def setup(self, trainer: Trainer) -> None:
        pass  # the base class would check that the folder is writable

    # Only for names such as log_image: a misspelt attribute is still an error.
    def __getattr__(self, name: str) -> Any:
        if name.startswith("log_"):
            return _do_nothing
        raise AttributeError(f"{type(self).__name__} has no attribute {name!r}")


def _do_nothing(*args: Any, **kwargs: Any) -> None:
    return None
