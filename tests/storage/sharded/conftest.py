"""A sharded checkpoint that two ranks have saved, and a copy of it to spoil."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.strategies.started import Ranks

SCRIPT = str(Path(__file__).with_name("save_on_ranks.py"))


@pytest.fixture(scope="session")
def saved_by_two(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """``2.ckpt``, and ``2.pt`` with the same in one file."""
    folder = tmp_path_factory.mktemp("sharded")
    assert [ended.code for ended in Ranks(SCRIPT, folder, "save").ended()] == [0, 0]
    return folder


@pytest.fixture
def copied(saved_by_two: Path, tmp_path: Path) -> Path:
    """A copy of the checkpoint."""
    return Path(shutil.copytree(saved_by_two / "2.ckpt", tmp_path / "copied.ckpt"))
