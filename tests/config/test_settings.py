from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from trainkit.config import from_config, read
from trainkit.config.settings import data_settings
from trainkit.data import DataModule
from trainkit.testing import TinyData

Write = Callable[[str], str]


class Numbers(DataModule):
    """Does not save its hyperparameters."""

    def __init__(self, batches: int = 2, **more: object) -> None:
        super().__init__()
        self.batches = batches

    def train_dataloader(self) -> TinyData:
        return TinyData(self.batches)


CONFIG = """
module: {_target_: trainkit.testing.TinyModule}
data: {_target_: tests.config.test_settings.Numbers, batches: 3%s}
trainer: {max_epochs: 1, enable_progress_bar: false, enable_model_summary: false, accelerator: cpu}
"""


def test_what_data_and_trainer_were_given_is_in_the_file_of_hyperparameters(write_config: Write) -> None:
    trainer, module, data = from_config(write_config(CONFIG % ""), ["trainer.max_epochs=2"])
    trainer.fit(module, datamodule=data)
    kept = yaml.safe_load(Path(trainer.log_dir, "hparams.yaml").read_text())
    assert kept == {
        **module.hparams,
        "trainer/max_epochs": 2,
        "trainer/accelerator": "cpu",
        "data/batches": 3,
    }
    assert type(module).load_from_checkpoint(
        str(Path(trainer.log_dir, "last.ckpt")), hparams_file=Path(trainer.log_dir, "hparams.yaml")
    )


@pytest.mark.parametrize(
    "more",
    [
        "password: hidden",
        "made: {_target_: builtins.dict}",
        "list: [{_target_: builtins.dict}]",
        "found: {_ref_: builtins.dict}",
        "asked: '${oc.env:HOME}'",
        "led: '${data.asked}', asked: '${oc.env:HOME}'",
    ],
)
def test_passwords_answers_and_objects_are_left_out(write_config: Write, more: str) -> None:
    settings = data_settings(read(write_config(CONFIG % f", {more}")))
    assert settings == {"data/batches": 3}


def test_nested_values_are_told(write_config: Write) -> None:
    settings = data_settings(read(write_config(CONFIG % ", crop: {size: '${data.batches}', token: t, to: [1, x]}")))
    assert settings == {"data/batches": 3, "data/crop": {"size": 3, "token": "(not shown)", "to": [1, "x"]}}


def test_a_run_without_data_has_none(write_config: Write) -> None:
    assert data_settings(read(write_config("module: {_target_: trainkit.testing.TinyModule}"))) == {}
