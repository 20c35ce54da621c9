"""Fixtures for tests of plugins, which pytest finds where trainkit is installed. Loading this file imports no torch.

They do nothing until a test asks for one: no option, no output, no fixture that is used by itself. ``-p
no:trainkit.pytest_plugin`` leaves them out.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from trainkit.testing import Recorder, TinyData, TinyModule
    from trainkit.trainer import Trainer


@pytest.fixture
def trainkit_module() -> TinyModule:
    """A `TinyModule`: one linear layer with fixed weights, which logs its loss."""
    from trainkit.testing import TinyModule

    return TinyModule()


@pytest.fixture
def trainkit_data() -> TinyData:
    """Four batches for `trainkit_module`, the last of them shorter."""
    from trainkit.testing import TinyData

    return TinyData(num_batches=4, last_batch_size=1)


@pytest.fixture
def trainkit_recorder() -> Recorder:
    """A `Recorder`: a callback that notes which hooks are called, in which order and with what."""
    from trainkit.testing import Recorder

    return Recorder()


@pytest.fixture
def trainkit_trainer(tmp_path: Path) -> Callable[..., Trainer]:
    """A function that makes a `Trainer` for one epoch on the CPU, which prints nothing and writes below ``tmp_path``.

    It takes the arguments of `Trainer`, which go before these.
    """
    from trainkit.testing import quiet_trainer

    def make(**arguments: Any) -> Trainer:
        return quiet_trainer(**({"default_root_dir": str(tmp_path)} | arguments))

    return make


@pytest.fixture
def trainkit_ranks() -> Callable[..., list[Any]]:
    """The function `trainkit.testing.run_on_ranks`, which calls another one on several ranks."""
    from trainkit.testing import run_on_ranks

    return run_on_ranks
