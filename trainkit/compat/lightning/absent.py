"""What Lightning has and trainkit has not: an error that says what to use instead."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Never

from trainkit.errors import UnsupportedAttributeError, UnsupportedImportError

LATER = "a callback of this kind comes with a later version of trainkit"
LATER_LOGGER = (
    "TensorBoardLogger or CSVLogger, or a subclass of Logger whose log_metrics calls the service's client; a logger "
    "for it comes with a later version of trainkit"
)
INSTEAD_OF_ADVANCED = (
    "profiler='simple' for hooks, profiler='pytorch' for operators, or python -m cProfile for functions"
)
LATER_STRATEGY = "strategy='fsdp', which shards the model, or strategy='ddp'"
LATER_TUNER = "a loop over short fits with other arguments; a tuner comes with a later version of trainkit"
TORCHRUN = "nothing: what torchrun, srun and mpirun set is read, and Trainer(devices=...) starts processes by itself"


def absent_names(module: str, instead: Mapping[str, str]) -> Callable[[str], Never]:
    """Return the ``__getattr__`` of a module, for the names that trainkit does not have.

    Args:
        module: The name of the module.
        instead: From each such name to what to use in its place.
    """

    def get(name: str) -> Never:
        if name not in instead:
            raise AttributeError(f"module {module!r} has no attribute {name!r}")
        raise UnsupportedImportError(f"{module.removeprefix('trainkit.compat.')}.{name}", instead[name])

    return get


class Absent:
    """An attribute that objects of a class do not have.

    Args:
        instead: What to use in its place.
    """

    def __init__(self, instead: str) -> None:
        self._instead = instead

    def __set_name__(self, owner: type, name: str) -> None:
        self._name = f"{owner.__name__}.{name}"

    def __get__(self, instance: Any, owner: type) -> Any:
        if instance is None:  # the class is looked at, as by inspect
            return self
        raise UnsupportedAttributeError(self._name, self._instead)
