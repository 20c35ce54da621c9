"""Frameworks, each made to do the same job in its own way. A contender is a file ``with_NAME.py`` beside this one."""

from __future__ import annotations

import importlib
import importlib.metadata
from pathlib import Path
from typing import Protocol

from benchmarks.job import Job


class Contender(Protocol):
    """A file of this folder.

    One that has a loader of its own for tensors in memory also defines ``tensor_loader(*tensors, batch_size)``.
    """

    DISTRIBUTION: str
    """What the package index calls it."""

    IMPORT: str
    """The statement with which a script begins that uses it."""

    def fit(self, job: Job) -> None:
        """Do ``job``, with nothing switched on that it does not ask for.

        Raises:
            Unsupported: If there is nothing like that.
        """


_PEERS = sorted(path.stem.removeprefix("with_") for path in Path(__file__).parent.glob("with_*.py"))
NAMES = ("trainkit", *(name for name in _PEERS if name not in ("trainkit", "nothing")), "nothing")


def load(name: str) -> Contender:
    """Return the contender called ``name``.

    Raises:
        ImportError: If it is not installed, or cannot be imported here.
    """
    contender: Contender = importlib.import_module(f"benchmarks.contenders.with_{name}")
    return contender


def version(contender: Contender) -> str:
    """Return the version that is installed."""
    try:
        return importlib.metadata.version(contender.DISTRIBUTION)
    except importlib.metadata.PackageNotFoundError:
        return "from source"
