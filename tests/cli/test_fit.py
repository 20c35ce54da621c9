from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch
from click.testing import Result

Run = Callable[..., Result]


def checkpoints() -> list[Path]:
    return sorted(Path().rglob("*.ckpt"))


def test_fit_trains_what_the_file_describes(trainkit_in_project: Run) -> None:
    result = trainkit_in_project("fit", "config.yaml", "data.batches=3")

    assert result.exit_code == 0, result.output
    (checkpoint,) = checkpoints()
    assert torch.load(checkpoint, weights_only=True)["global_step"] == 6


def test_fit_continues_from_the_last_checkpoint(trainkit_in_project: Run) -> None:
    trainkit_in_project("fit", "config.yaml")

    result = trainkit_in_project("fit", "config.yaml", "trainer.max_epochs=3", "ckpt_path=last")

    assert result.exit_code == 0, result.output
    newest = max(checkpoints(), key=lambda path: path.stat().st_mtime_ns)
    assert torch.load(newest, weights_only=True)["global_step"] == 12


def test_run_keeps_its_configuration(trainkit_in_project: Run) -> None:
    trainkit_in_project("fit", "config.yaml", "trainer.max_epochs=1")

    (kept,) = (path for path in Path().rglob("config.yaml") if path.parent != Path())
    assert "max_epochs: 1" in kept.read_text()
