from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path

import pytest

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


def test_run_that_goes_on_with_nothing_left_keeps_the_configuration_it_has(write_config: Write, tmp_path: Path) -> None:
    path = write_config(
        f"""
        module: {{_target_: trainkit.testing.TinyModule}}
        trainer: {{max_epochs: 1, enable_progress_bar: false, default_root_dir: {tmp_path}}}
        """
    )
    trainer, module, _ = from_config(path)
    trainer.fit(module, TinyData())
    saved = Path(trainer.log_dir) / "config.yaml"
    before = saved.read_text()

    for max_epochs, changes in ((1, False), (2, True)):
        trainer, module, _ = from_config(path, [f"trainer.max_epochs={max_epochs}", "trainer.log_every_n_steps=7"])
        with nullcontext() if changes else pytest.warns(UserWarning, match="nothing is left"):
            trainer.fit(module, TinyData(), ckpt_path="last")
        assert (saved.read_text() != before) is changes
