from __future__ import annotations

import sys
import textwrap
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from trainkit.cli.main import main

MODELS = """
    import torch
    import trainkit
    from trainkit.testing import TinyData, TinyModule

    class Data(trainkit.DataModule):
        def __init__(self, batches: int = 4):
            super().__init__()
            self.batches = batches

        def train_dataloader(self):
            return TinyData(self.batches)

        def val_dataloader(self):
            return TinyData(self.batches)

        test_dataloader = predict_dataloader = val_dataloader

    class Interrupted(TinyModule):
        def training_step(self, batch, batch_idx):
            raise KeyboardInterrupt

    class Unpredictable(TinyModule):
        def predict_step(self, batch, batch_idx):
            print("predicting")
            raise RuntimeError("predicting failed")

    class Broken(TinyModule):
        def training_step(self, batch, batch_idx):
            return "a loss"
"""

CONFIG = """
    seed: 7
    module: {_target_: models.TinyModule, lr: 0.1}
    data: {_target_: models.Data}
    trainer: {max_epochs: 2, enable_progress_bar: false, enable_model_summary: false, accelerator: cpu}
"""


@pytest.fixture
def trainkit_in_project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Result]:
    """Run commands in a folder that holds ``models.py`` and ``config.yaml``."""
    (tmp_path / "models.py").write_text(textwrap.dedent(MODELS))
    (tmp_path / "config.yaml").write_text(textwrap.dedent(CONFIG))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", sys.path.copy())
    monkeypatch.delitem(sys.modules, "models", raising=False)

    def run(*arguments: str) -> Result:
        return CliRunner().invoke(main, arguments)

    return run
