"""Frameworks, each made to do the same job in its own way. One that is not installed is left out, and it is said."""

from __future__ import annotations

import importlib
import importlib.metadata
from typing import Protocol

from benchmarks.cases import Job


class Contender(Protocol):
    """A module of this folder."""

    DISTRIBUTION: str
    """What the package index calls it."""

    IMPORT: str
    """The statement with which a script begins that uses it."""

    def fit(self, job: Job) -> None:
        """Do ``job``, with nothing switched on that it does not ask for.

        Raises:
            Unsupported: If there is nothing like that.
        """


NAMES = ("trainkit", "ignite", "accelerate", "torchtnt", "lightning", "transformers", "composer", "keras", "fastai")


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
