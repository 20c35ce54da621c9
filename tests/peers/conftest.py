"""Tests against peers: skipped where they are not installed (``pip install "trainkit[peers]"``)."""

from __future__ import annotations

import importlib
import importlib.util
import logging
import warnings
from collections.abc import Iterator
from typing import Any

import pytest


@pytest.fixture(scope="session")
def lightning() -> Any:
    """Lightning itself."""
    if importlib.util.find_spec("lightning") is None:
        pytest.skip("lightning is not installed")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return importlib.import_module("lightning.pytorch")


@pytest.fixture(autouse=True)
def quiet_peers() -> Iterator[None]:
    """Peers talk a lot; what they warn of is theirs."""
    logging.disable(logging.WARNING)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
    logging.disable(logging.NOTSET)
