from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from trainkit import Trainer
from trainkit.compat import lightning as pl
from trainkit.precision.dtypes import Float64
from trainkit.strategies.single import SingleDevice


@pytest.mark.parametrize(
    ("arguments", "settings"),
    [
        ({}, {}),
        ({"max_epochs": 3, "gradient_clip_val": 0.5}, {"max_epochs": 3, "gradient_clip_val": 0.5}),
        ({"max_steps": -1, "accelerator": "auto", "limit_val_batches": None}, {}),
        ({"limit_train_batches": 1.0}, {"limit_train_batches": 1.0}),
        ({"limit_train_batches": np.int64(2)}, {"limit_train_batches": 2}),
        ({"accumulate_grad_batches": {0: 1, 4: 2}}, {"accumulate_grad_batches": {0: 1, 4: 2}}),
        ({"max_time": timedelta(hours=2)}, {"max_time": "2:00:00"}),
        ({"strategy": SingleDevice("cpu"), "precision": Float64()}, {"strategy": "single", "precision": "64-true"}),
        ({"logger": False, "callbacks": [], "enable_progress_bar": False, "log_every_n_steps": 5}, {}),
    ],
)
def test_what_was_given_is_a_setting(tmp_path: Path, arguments: dict[str, Any], settings: dict[str, Any]) -> None:
    told = {f"trainer/{name}": value for name, value in settings.items()}
    assert Trainer(default_root_dir=tmp_path, **arguments).settings == told


def test_a_trainer_of_lightnings_name_tells_the_same(tmp_path: Path) -> None:
    trainer = pl.Trainer(default_root_dir=tmp_path, max_epochs=3, accelerator="cpu", devices=1, logger=False)
    assert trainer.settings == {"trainer/max_epochs": 3, "trainer/accelerator": "cpu", "trainer/devices": 1}
