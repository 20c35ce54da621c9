from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from trainkit.config import Config, from_config, read
from trainkit.config.schema import Source
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


QUIET = "enable_progress_bar: false, enable_model_summary: false"
BASE = f"""
# a comment of the user
module: {{_target_: trainkit.testing.TinyModule}}
trainer: {{max_epochs: 1, {QUIET}}}
"""


def fit(path: str, *overrides: str, **options: Any) -> Path:
    """Fit what a file describes, and return the folder of the run."""
    trainer, module, _ = from_config(path, overrides)
    trainer.fit(module, TinyData(), **options)
    return Path(trainer.log_dir)


def files(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.glob("*.yaml") if path.name != "hparams.yaml")


@pytest.mark.parametrize(
    ("overrides", "kept"),
    [
        (["trainer.fast_dev_run=true"], []),
        (["trainer.barebones=true"], []),
        (["trainer.logger=false", "trainer.enable_checkpointing=false"], []),
        (["trainer.logger=false"], ["checkpoints/config.yaml"]),
        (["trainer.logger=false", "trainer.keep_last=false"], ["checkpoints/config.yaml"]),
    ],
)
def test_file_of_the_user_stays_as_it_is(write_config: Write, overrides: list[str], kept: list[str]) -> None:
    path = write_config(BASE)
    before = Path(path).read_text()
    if "trainer.barebones=true" in overrides:
        overrides = [*overrides, "~trainer.enable_progress_bar", "~trainer.enable_model_summary"]

    fit(path, *overrides)

    assert Path(path).read_text() == before
    assert [str(found) for found in Path().rglob("config*.yaml") if found != Path(path)] == kept


def test_run_beside_a_file_of_the_user_keeps_both(write_config: Write) -> None:
    path = write_config(BASE)
    Path("checkpoints").mkdir()
    Path("checkpoints/config.yaml").write_text("mine")

    fit(path, "trainer.logger=false")

    assert Path("checkpoints/config.yaml").read_text() == "mine"
    assert read("checkpoints/config-v1.yaml").trainer["logger"] is False


def test_run_that_goes_on_adds_its_configuration_if_that_differs(write_config: Write) -> None:
    path = write_config(BASE)
    folder = fit(path, "seed=7")
    before = (folder / "config.yaml").read_text()

    with pytest.warns(UserWarning, match="nothing is left"):
        fit(path, "seed=8", ckpt_path="last")
    assert files(folder) == ["config.yaml"]
    fit(path, "seed=9", "trainer.max_epochs=2", "ckpt_path=last", ckpt_path="last")
    assert files(folder) == ["config-v1.yaml", "config.yaml"]
    added = read(folder / "config-v1.yaml")
    assert (added.seed, added.ckpt_path) == (9, None)
    fit(path, "seed=9", "trainer.max_epochs=3", ckpt_path="last")
    fit(path, "seed=9", "trainer.max_epochs=3", "trainer.limit_val_batches=1")  # a run of its own
    assert files(folder) == ["config-v1.yaml", "config-v2.yaml", "config.yaml"]
    assert (folder / "config.yaml").read_text() == before


def test_job_that_goes_on_unchanged_adds_nothing(write_config: Write) -> None:
    path = write_config(BASE)

    class Stop(TinyModule):
        def on_train_epoch_start(self) -> None:
            if self.current_epoch == 1:
                raise KeyboardInterrupt

    trainer, _, _ = from_config(path, ["trainer.max_epochs=2"])
    with pytest.raises(KeyboardInterrupt):
        trainer.fit(Stop(), TinyData())
    folder = fit(path, "trainer.max_epochs=2", ckpt_path="last")

    assert folder == Path(trainer.log_dir)
    assert files(folder) == ["config.yaml"]


@pytest.mark.parametrize("value", ["${a}", "\\${a}", "\\\\${oc.env:HOME} ${", "???", "\\???", "1e3", "null", "~", ""])
def test_text_that_looks_like_something_else_is_read_back_as_it_was(
    value: str, write_config: Write, tmp_path: Path
) -> None:
    module = {"_target_": "x", "text": [value]}
    config = Config(source=Source("", {}), module=module, trainer={"nan": math.nan}, callbacks={})

    written = write_config(config.to_yaml())

    assert repr(read(written).sections()) == repr(config.sections())


def test_configuration_that_cannot_be_kept_is_told(write_config: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_config(BASE)
    monkeypatch.setattr(Config, "to_yaml", lambda self: "module: {}")

    with pytest.warns(UserWarning, match="configuration of this run is not kept in .*read back"):
        folder = fit(path)

    assert files(folder) == []
