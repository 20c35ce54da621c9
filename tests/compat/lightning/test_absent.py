from __future__ import annotations

import importlib
import pkgutil
import re
from pathlib import Path
from typing import Any

import pytest

import trainkit.compat.lightning as pl
from trainkit.compat.lightning.absent import Absent
from trainkit.errors import TrainkitError, UnsupportedError, UnsupportedImportError

MODULES = sorted({pl.__name__, *(m.name for m in pkgutil.walk_packages(pl.__path__, f"{pl.__name__}."))})


def table_of(module: Any) -> dict[str, str]:
    """Return the names that a module of the layer says are absent."""
    get = vars(module).get("__getattr__")
    return (
        {}
        if get is None
        else dict(zip(get.__code__.co_freevars, get.__closure__, strict=True))["instead"].cell_contents
    )


ABSENT = [(name, missing) for name in MODULES for missing in table_of(importlib.import_module(name))]


@pytest.mark.parametrize(("module", "name"), ABSENT)
def test_an_absent_name_says_what_to_use_instead(module: str, name: str) -> None:
    with pytest.raises(UnsupportedImportError) as error:
        getattr(importlib.import_module(module), name)
    assert isinstance(error.value, TrainkitError | ImportError) and not isinstance(error.value, AttributeError)
    assert re.search(rf"trainkit has no lightning[\w.]*\.{name}\.\n    instead      \S", str(error.value))
    with pytest.raises(UnsupportedImportError, match="instead"):
        exec(f"from {module} import {name}")


def test_a_name_that_lightning_does_not_have_either_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match=r"'trainkit\.compat\.lightning' has no attribute 'Trianer'"):
        pl.Trianer  # noqa: B018


@pytest.mark.parametrize("name", MODULES)
def test_every_announced_name_is_there(name: str) -> None:
    module = importlib.import_module(name)
    assert [each for each in getattr(module, "__all__", ()) if not hasattr(module, each)] == []


def test_absent_attributes_of_objects_say_what_to_use_instead_and_are_not_there() -> None:
    trainer = pl.Trainer(accelerator="cpu", logger=False, enable_progress_bar=False)
    with pytest.raises(
        UnsupportedError, match=r"trainkit has no Trainer\.validate_loop\.\n    instead      trainer\.progress"
    ):
        trainer.validate_loop  # noqa: B018
    with pytest.raises(UnsupportedError, match=r"no Trainer\.fit_loop\.batch_idx.*\n.*batch_idx of hooks"):
        trainer.fit_loop.epoch_loop.batch_idx  # noqa: B018
    with pytest.raises(UnsupportedError, match=r"no Trainer\.fit_loop\.max_epoch\."):
        trainer.fit_loop.max_epoch = 3
    assert not hasattr(trainer, "tune")
    assert isinstance(pl.Trainer.tune, Absent), "looking at the class is no use of it"


@pytest.mark.parametrize(
    ("line", "instead"),
    [
        ("from {}.loggers.wandb import WandbLogger", "TensorBoardLogger or CSVLogger"),
        ("from {}.tuner.tuning import Tuner", "a loop over short fits"),
        ("import {}.loops.fit_loop", "trainkit.loops, which are functions; trainer.fit_loop"),
        ("from {}.pytorch.strategies.deepspeed import DeepSpeedStrategy", "strategy='fsdp'"),
        ("from {}.callbacks import ModelCheckpont", "ModelCheckpoint, if that was meant"),
        ("import {}.utilities.nothing", "what is in trainkit.compat.lightning.utilities: AttributeDict, "),
    ],
)
def test_a_module_that_is_not_there_says_what_to_use_instead(line: str, instead: str) -> None:
    said = rf"trainkit has no lightning\.[a-z].*\n    instead      {instead}"
    with pytest.raises(UnsupportedImportError, match=said):
        exec(line.format(pl.__name__))


def test_modules_of_others_are_not_looked_at() -> None:
    with pytest.raises(ModuleNotFoundError, match="No module named 'trainkit.nothing'"):
        importlib.import_module("trainkit.nothing")


def test_what_a_module_cannot_do_says_so_when_it_is_asked_to() -> None:
    with pytest.raises(UnsupportedError, match="to_onnx"):
        pl.LightningModule().to_torchscript("file.pt")
    with pytest.raises(UnsupportedError, match="torch_tensorrt"):
        pl.LightningModule().to_tensorrt()


def test_the_page_for_lightnings_users_names_what_is_absent() -> None:
    page = (Path(__file__).parents[3] / "docs" / "migrate" / "lightning.md").read_text()
    places = ("callbacks", "loggers", "tuner")
    missing = {name for module, name in ABSENT if module.rpartition(".")[2] in places}
    assert [name for name in sorted(missing) if f"`{name}`" not in page] == []
