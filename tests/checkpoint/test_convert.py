from __future__ import annotations

import argparse
from collections import OrderedDict
from pathlib import Path
from typing import Any

import pytest
import torch

from trainkit.checkpoint.convert import convert_checkpoint
from trainkit.data import DataModule
from trainkit.errors import CheckpointError, CheckpointNotFoundError
from trainkit.storage.files import read_checkpoint
from trainkit.testing import TinyData, TinyModule, assert_same_weights, quiet_trainer

LIGHTNING = Path(__file__).parent / "data" / "lightning-2.6.6-epoch-end.ckpt"


class Opaque:
    """What only a pickle can hold."""


@pytest.fixture
def unsafe(tmp_path: Path) -> Path:
    """A checkpoint of Lightning with things in it that would run code."""
    checkpoint: dict[str, Any] = torch.load(LIGHTNING)
    checkpoint["hyper_parameters"] |= {
        "lr": 0.25,
        "options": argparse.Namespace(depth=2, path=Path("data")),
        "criterion": torch.nn.MSELoss(),
    }
    checkpoint["callbacks"]["Mine"] = {"memory": Opaque()}
    checkpoint["extra"] = Opaque()
    path = tmp_path / "unsafe.ckpt"
    torch.save(checkpoint, path)
    return path


def test_what_is_refused_otherwise_is_loadable_when_converted(unsafe: Path, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=f"trainkit checkpoint convert {unsafe} NEW --trust"):
        read_checkpoint(unsafe)

    left_out = convert_checkpoint(unsafe, tmp_path / "new.ckpt")

    assert left_out == ["hyper_parameters.criterion", "callbacks.Mine", "extra"]
    assert_same_weights(TinyModule.load_from_checkpoint(tmp_path / "new.ckpt"), weights_of(unsafe))


def weights_of(path: Path) -> TinyModule:
    module = TinyModule()
    module.load_state_dict(torch.load(path, weights_only=False)["state_dict"])
    return module


def test_hyperparameters_are_converted_where_that_loses_nothing(unsafe: Path, tmp_path: Path) -> None:
    convert_checkpoint(unsafe, tmp_path / "new.ckpt")
    hparams = read_checkpoint(tmp_path / "new.ckpt")["hyper_parameters"]
    assert hparams["options"] == {"depth": 2, "path": "data"}
    assert "criterion" not in hparams


def test_hyperparameters_that_were_left_out_have_to_be_passed(unsafe: Path, tmp_path: Path) -> None:
    convert_checkpoint(unsafe, tmp_path / "new.ckpt")

    class Wants(TinyModule):
        def __init__(self, criterion: Any = None, lr: float = 0.1, **others: Any) -> None:
            super().__init__(lr=lr)

    with pytest.raises(CheckpointError, match="does not hold: criterion"):
        Wants.load_from_checkpoint(tmp_path / "new.ckpt")
    assert Wants.load_from_checkpoint(tmp_path / "new.ckpt", criterion=torch.nn.MSELoss()).lr == 0.25


class Data(DataModule):
    def __init__(self, folder: Any = None, transform: Any = None, splits: Any = ()) -> None:
        super().__init__()
        self.save_hyperparameters()


def test_hyperparameters_of_a_data_module_are_kept_one_by_one(unsafe: Path, tmp_path: Path) -> None:
    checkpoint = torch.load(unsafe, weights_only=False)
    checkpoint["datamodule_hyper_parameters"] = {
        "folder": Path("data"),
        "transform": Opaque(),
        "splits": OrderedDict(a=1),
    }
    checkpoint["datamodule_hparams_name"] = "kwargs"
    torch.save(checkpoint, unsafe)

    assert "datamodule_hyper_parameters.transform" in convert_checkpoint(unsafe, tmp_path / "new.ckpt")

    with pytest.raises(CheckpointError, match="does not hold: transform"):
        Data.load_from_checkpoint(tmp_path / "new.ckpt")
    data = Data.load_from_checkpoint(tmp_path / "new.ckpt", transform=None)
    assert data.hparams == {"folder": Path("data"), "splits": OrderedDict(a=1), "transform": None}


def test_what_was_pickled_beside_values_of_trainkit_keeps_its_types(tmp_path: Path) -> None:
    class Takes(TinyModule):
        def __init__(self, folder: Any, options: Any = None, extra: Any = None) -> None:
            super().__init__()
            self.save_hyperparameters()

    trainer = quiet_trainer(max_epochs=1)
    trainer.fit(Takes(Path("data"), {"noted": Path("a")}), TinyData(1))
    checkpoint = trainer.dump_checkpoint()
    checkpoint["hyper_parameters"]["extra"] = argparse.Namespace(depth=2)
    checkpoint["hyper_parameters"]["options"]["pickled"] = Path("b")
    torch.save(checkpoint, tmp_path / "old.ckpt")

    assert convert_checkpoint(tmp_path / "old.ckpt", tmp_path / "new.ckpt") == []

    hparams = Takes.load_from_checkpoint(tmp_path / "new.ckpt").hparams
    assert hparams["folder"] == Path("data")
    assert hparams["options"] == {"noted": Path("a"), "pickled": Path("b")}
    assert hparams["extra"] == argparse.Namespace(depth=2)


def test_a_run_goes_on_from_the_converted_file(unsafe: Path, tmp_path: Path) -> None:
    convert_checkpoint(unsafe, tmp_path / "new.ckpt")
    converted = read_checkpoint(tmp_path / "new.ckpt")
    assert converted["loops"]["fit"]["global_step"] == 5
    assert len(converted["optimizer_states"]) == len(converted["lr_schedulers"]) == 1


@pytest.mark.parametrize(("content", "message"), [(b"no zip, no pickle", "is not a checkpoint"), (None, "state_dict")])
def test_what_holds_no_weights_is_refused(content: bytes | None, message: str, tmp_path: Path) -> None:
    old = tmp_path / "old.ckpt"
    if content is None:
        torch.save({"weights": 1}, old)
    else:
        old.write_bytes(content)
    with pytest.raises(CheckpointError, match=message):
        convert_checkpoint(old, tmp_path / "new.ckpt")
    assert not (tmp_path / "new.ckpt").exists()


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(CheckpointNotFoundError, match="missing.ckpt"):
        convert_checkpoint(tmp_path / "missing.ckpt", tmp_path / "new.ckpt")
