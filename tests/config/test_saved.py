from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from trainkit.config import from_config, read
from trainkit.testing import TinyData, TinyModule

Write = Callable[[str], str]


def test_run_keeps_the_resolved_configuration(write_config: Write) -> None:
    path = write_config(
        """
        module: {_target_: trainkit.testing.TinyModule}
        trainer: {max_epochs: "${trainer.max_steps}", max_steps: 3, enable_progress_bar: false}
        callbacks: {early_stopping: {monitor: train/loss}}
        """
    )
    trainer, module, _ = from_config(path, ["trainer.max_steps=1", "callbacks.early_stopping=null"])
    assert isinstance(module, TinyModule)

    trainer.fit(module, TinyData())

    saved = read(Path(trainer.log_dir) / "config.yaml")
    assert saved.trainer == {"max_epochs": 1, "max_steps": 1, "enable_progress_bar": False}
    assert saved.callbacks == {"early_stopping": None}
