from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from trainkit.callbacks import CSVLogger, EarlyStopping, ModelCheckpoint, TensorBoardLogger
from trainkit.config import from_config, read
from trainkit.errors import ConfigError, UnknownNameError
from trainkit.testing import TinyData

Write = Callable[[str], str]

BASE = """
module: {_target_: trainkit.testing.TinyModule}
trainer: {max_epochs: 1}
callbacks:
  stop: {use: early_stopping, monitor: train/loss}
"""


def plugins(path: str, *overrides: str) -> set[str]:
    """Return the classes of a Trainer's callbacks and loggers, without those that every run has."""
    trainer, _, _ = from_config(path, overrides)
    return {type(plugin).__name__ for plugin in (*trainer.callbacks, *trainer.loggers)} - {"SavedConfig"}


DEFAULTS = {
    "progress_bar": "ProgressBar",
    "model_summary": "ModelSummary",
    "model_checkpoint": "ModelCheckpoint",
    "tensorboard": "TensorBoardLogger",
    "csv": "CSVLogger",
}


@pytest.mark.parametrize("name", DEFAULTS)
def test_null_switches_off_what_is_there_by_default(name: str, write_config: Write) -> None:
    path = write_config(BASE)

    assert plugins(path) == {*DEFAULTS.values(), "EarlyStopping"}
    assert plugins(path, f"callbacks.{name}=null") == {*DEFAULTS.values(), "EarlyStopping"} - {DEFAULTS[name]}
    assert plugins(path, f"callbacks.{name}={{}}", f"callbacks.{name}=null") == plugins(path, f"callbacks.{name}=null")


def test_run_without_any_default_writes_nothing(
    write_config: Write, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    path = write_config(BASE)
    trainer, module, _ = from_config(path, [f"callbacks.{name}=null" for name in DEFAULTS])

    trainer.fit(module, TinyData())

    assert [found.name for found in tmp_path.iterdir()] == [path]
    assert "Params" not in capsys.readouterr().out


def test_run_with_one_logger_has_its_folder(write_config: Write) -> None:
    trainer, module, _ = from_config(
        write_config(BASE), ["callbacks.tensorboard=null", "trainer.default_root_dir=runs"]
    )

    trainer.fit(module, TinyData())

    assert {found.name for found in Path("runs/trainkit_logs/version_0").iterdir()} >= {"hparams.yaml", "config.yaml"}


def test_one_of_the_same_class_under_another_key_stays(write_config: Write) -> None:
    overrides = ["callbacks.model_checkpoint=null", "callbacks.best={use: model_checkpoint, monitor: train/loss}"]
    trainer, _, _ = from_config(write_config(BASE), overrides)

    assert [each.monitor for each in trainer.checkpoint_callbacks] == ["train/loss"]


def test_own_key_is_left_out_and_not_kept(write_config: Write) -> None:
    path = write_config(BASE)

    assert plugins(path, "callbacks.stop=null") == {*DEFAULTS.values()}
    assert plugins(path, "callbacks={stop: null}") == {*DEFAULTS.values()}
    kept = write_config(read(path, ["callbacks.stop=null", "callbacks.progress_bar=null"]).to_yaml())
    assert plugins(kept) == {*DEFAULTS.values()} - {"ProgressBar"}


@pytest.mark.parametrize("text", [BASE, BASE.replace("stop:", "early_stoping: null\n  stop:")])
def test_name_that_nobody_has_is_refused_with_the_nearest(text: str, write_config: Write) -> None:
    overrides = [] if "stoping" in text else ["callbacks.early_stoping=null"]

    with pytest.raises(UnknownNameError, match="(?s)'early_stoping'.*callbacks.*did you mean 'early_stopping'"):
        from_config(write_config(text), overrides)


@pytest.mark.parametrize(
    ("name", "argument"),
    [
        ("progress_bar", "enable_progress_bar=true"),
        ("gradient_clipping", "gradient_clip_val=1.0"),
        ("csv", "logger={_target_: trainkit.callbacks.CSVLogger}"),
        ("csv", "logger=[{_target_: trainkit.callbacks.CSVLogger}]"),
    ],
)
def test_argument_that_asks_for_what_is_disabled_is_refused(name: str, argument: str, write_config: Write) -> None:
    with pytest.raises(ConfigError, match=f"callbacks.{name}=null contradicts trainer.{argument.partition('=')[0]}="):
        from_config(write_config(BASE), [f"callbacks.{name}=null", f"trainer.{argument}"])


@pytest.mark.parametrize("argument", ["barebones=true", "logger=false", "fast_dev_run=true"])
def test_what_is_off_already_may_be_disabled_too(argument: str, write_config: Write) -> None:
    trainer, _, _ = from_config(write_config(BASE), [f"trainer.{argument}", *(f"callbacks.{n}=null" for n in DEFAULTS)])

    assert not any(isinstance(each, CSVLogger | TensorBoardLogger | ModelCheckpoint) for each in trainer.loggers)
    assert any(isinstance(each, EarlyStopping) for each in trainer.callbacks)
