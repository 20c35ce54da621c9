from __future__ import annotations

import types
from collections.abc import Iterator
from enum import Enum
from typing import Any, Union, get_args, get_origin, get_type_hints, is_typeddict

import pytest
import torch
from torch.utils.data import DataLoader, TensorDataset
from torchmetrics import MeanMetric

from trainkit import DataModule
from trainkit.callbacks import Callback, CSVLogger, EarlyStopping, WeightAveraging
from trainkit.checkpoint.state import LIGHTNING_VERSION
from trainkit.errors import CheckpointError
from trainkit.storage.files import read_checkpoint, write_checkpoint
from trainkit.storage.layout import Cursor, Metrics, Weights, Whole, misfit
from trainkit.testing import TinyData, TinyModule, quiet_trainer
from trainkit.types import Phase


@pytest.fixture(params=[True, False], ids=["weights", "whole"])
def checkpoint(request: pytest.FixtureRequest) -> dict[str, Any]:
    trainer = quiet_trainer(max_epochs=1)
    trainer.fit(TinyModule(), TinyData(2))
    return trainer.dump_checkpoint(weights_only=request.param)


def test_what_a_run_saves_is_as_the_layout_has_it(checkpoint: dict[str, Any]) -> None:
    assert misfit(checkpoint) == ""


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"state_dict": "x"}, "state_dict is 'x', and a dict was expected"),
        ({"epoch": None}, "epoch is None, and a count was expected"),
        ({"global_step": 10**18}, "global_step is 1000000000000000000, and a count was expected"),
        ({"hyper_parameters": [1]}, "hyper_parameters is a list, and a dict was expected"),
        ({"trainkit": {"format": 2, "version": 1}}, "trainkit.version is 1, and a str was expected"),
    ],
)
def test_a_wrong_value_is_named_when_it_is_read(tmp_path: Any, checkpoint: Any, change: Any, told: str) -> None:
    write_checkpoint(checkpoint | change, tmp_path / "a.ckpt")
    with pytest.raises(CheckpointError, match=f"a.ckpt is whole, and yet no checkpoint.*: {told}"):
        read_checkpoint(tmp_path / "a.ckpt")


def test_a_file_of_another_program_needs_no_more_than_weights() -> None:
    assert misfit({"state_dict": {"a": torch.zeros(1)}, "loops": 3, "epoch": "x"}) == ""
    assert misfit({"anything": 1}) == ""


@pytest.mark.parametrize("name", ["state_dict", "hyper_parameters", "datamodule_hyper_parameters"])
def test_what_is_read_of_a_file_of_another_program_is_looked_at(name: str) -> None:
    assert misfit({name: None}) == f"{name} is None, and a dict was expected"


def test_the_phases_are_those_that_there_are() -> None:
    phases = get_type_hints(Metrics)["phases"]
    assert get_args(get_args(phases)[0]) == tuple(phase.value for phase in Phase)


def unknown(value: Any, expected: Any, place: str = "") -> Iterator[str]:
    """Yield the places in ``value`` that the layout has no entry for."""
    origin, kinds = get_origin(expected), get_args(expected)
    if value is None or expected is Cursor:  # which has further ones by the kind of loader
        return
    if is_typeddict(expected):
        hints = get_type_hints(expected)
        for key, each in value.items():
            yield from unknown(each, hints[key], f"{place}.{key}") if key in hints else [f"{place}.{key}"]
    elif origin in (Union, types.UnionType):
        yield from unknown(value, next((kind for kind in kinds if is_typeddict(kind)), Any), place)
    elif origin in (list, dict):
        for each in value.values() if origin is dict else value:
            yield from unknown(each, kinds[-1], f"{place}[]")


class Kind(Enum):
    A = 1


class Rich(TinyModule):
    """Has of all that is saved something."""

    def __init__(self, kind: Kind = Kind.A, call: Any = print) -> None:
        super().__init__()
        self.save_hyperparameters()
        self.accuracy = MeanMetric()

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        self.accuracy(1.0)
        self.log("train/accuracy", self.accuracy, on_step=True, on_epoch=True)
        return super().training_step(batch, batch_idx)

    def validation_step(self, batch: Any, batch_idx: int, dataloader_idx: int) -> None:
        super().validation_step(batch, batch_idx)


class RichData(DataModule):
    def __init__(self, kind: Kind = Kind.A, call: Any = print) -> None:
        super().__init__()
        self.save_hyperparameters()

    def train_dataloader(self) -> Any:
        return DataLoader(TensorDataset(torch.ones(8, 4), torch.ones(8, 2)), shuffle=True)

    def val_dataloader(self) -> Any:
        return [self.train_dataloader(), self.train_dataloader()]


@pytest.mark.filterwarnings("ignore:.*hyperparameter")
def test_every_key_that_is_saved_is_in_the_layout(tmp_path: Any) -> None:
    found: dict[str, None] = {}
    saved: list[set[str]] = []

    class Saves(Callback):
        def on_train_batch_end(self, trainer: Any) -> None:
            checkpoint = trainer.dump_checkpoint()
            found.update(dict.fromkeys(unknown(checkpoint, Whole)))
            saved.append(set(checkpoint["trainkit"]))

        def on_validation_batch_end(self, trainer: Any) -> None:
            if not trainer.sanity_checking:
                self.on_train_batch_end(trainer)

    trainer = quiet_trainer(
        max_epochs=2,
        accumulate_grad_batches=3,
        val_check_interval=4,
        default_root_dir=tmp_path,
        logger=CSVLogger(tmp_path),
        enable_checkpointing=True,
        callbacks=[Saves(), WeightAveraging(), EarlyStopping("train/loss", strict=False)],
    )
    trainer.fit(Rich(), datamodule=RichData())
    found.update(dict.fromkeys(unknown(trainer.dump_checkpoint(weights_only=True), Weights)))
    # A key that Lightning reads, and no name of Python.
    assert set(found) == {f".{LIGHTNING_VERSION}"}
    assert {"hparams_types", "hparams_enums", "datamodule_hparams_types", "logged", "due", "run"} <= saved[0]


@pytest.mark.parametrize(
    ("place", "value"), [("epoch", "x"), ("state_dict", torch.zeros(2)), ("callbacks", []), ("state_dict", {1: 2})]
)
def test_what_would_be_refused_by_every_load_is_refused_when_it_is_saved(tmp_path: Any, place: str, value: Any) -> None:
    class Puts(Callback):
        def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
            checkpoint[place] = value

    trainer = quiet_trainer(callbacks=[Puts()])
    trainer.fit(TinyModule(), TinyData(2))
    with pytest.raises(CheckpointError, match=f"could be written and not be read: .*{place}"):
        trainer.save_checkpoint(tmp_path / "a.ckpt")
    assert not list(tmp_path.iterdir())
