from __future__ import annotations

import textwrap
from collections.abc import Callable
from pathlib import Path

import pytest


@pytest.fixture
def write_config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], str]:
    """Write text as ``config.yaml`` into the current directory, which is an empty one, and return its name."""
    monkeypatch.chdir(tmp_path)

    def write(text: str) -> str:
        (tmp_path / "config.yaml").write_text(textwrap.dedent(text), encoding="utf-8")
        return "config.yaml"

    return write
