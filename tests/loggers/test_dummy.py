from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from trainkit import Trainer
from trainkit.loggers.dummy import DummyLogger
from trainkit.testing import TinyData, TinyModule


class Draws(TinyModule):
    """A module that uses its logger directly."""

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        self.logger.experiment.add_images("name", None, 0)
        self.logger.log_metrics({"loss": 1.0}, 0)
        self.logger.log_image("key", [])
        return super().training_step(batch, batch_idx)


def test_a_module_may_use_its_logger_in_a_fast_dev_run(tmp_path: Path) -> None:
    trainer = Trainer(
        accelerator="cpu",
        fast_dev_run=True,
        default_root_dir=tmp_path,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(Draws(), TinyData(1))
    assert isinstance(trainer.logger, DummyLogger)
    assert trainer.log_dir == str(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_there_is_none_where_none_was_wanted() -> None:
    assert Trainer(accelerator="cpu", fast_dev_run=True, logger=False).loggers == []


def test_what_no_logger_has_is_missing() -> None:
    with pytest.raises(AttributeError, match="DummyLogger has no attribute 'wacth'"):
        DummyLogger().wacth  # noqa: B018
