"""What the README shows can be run, and what it says is there is there."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest
import torch
from torch.utils.data import DataLoader, TensorDataset

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README, re.DOTALL)


def test_example_trains_and_continues(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    generator = torch.Generator().manual_seed(0)
    data = TensorDataset(torch.randn(32, 64, generator=generator), torch.randint(10, (32,), generator=generator))
    names = {"train_loader": DataLoader(data, 8, shuffle=True), "val_loader": DataLoader(data, 8)}
    (example,) = blocks("python")

    # Its last line continues a run that was not interrupted.
    with pytest.warns(UserWarning, match="nothing is left to train: 10 epochs"):
        exec(compile(example, "README.md", "exec"), names)

    assert names["trainer"].current_epoch == 10
    assert list(tmp_path.rglob("*.ckpt"))


def test_there_are_two_set_up_commands_that_install_first() -> None:
    commands = blocks("console")

    assert len(commands) == 2
    for command in commands:
        extras = re.match(r'pip install -e "\.\[([\w,]+)\]" -c constraints\.txt && ', command)
        assert extras is not None
        assert set(extras[1].split(",")) <= set(PYPROJECT["project"]["optional-dependencies"])
    assert "trainkit fit examples/digits/config.yaml" in commands[0]
    assert commands[1].rstrip().endswith("&& pytest")


def test_files_it_names_exist() -> None:
    named = set(re.findall(r"(?:trainkit|docs|examples)/[\w./-]+\.\w+", README))

    assert named
    assert [name for name in named if not (ROOT / name).exists()] == []
