from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from omegaconf import OmegaConf

from trainkit.config import Config, from_config, read
from trainkit.config.saved import SavedConfig
from trainkit.config.schema import Source
from trainkit.hooks.callback import Callback
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


SECRET = "hf_0123456789"
WITH_SECRET = f"""
module: {{_target_: trainkit.testing.TinyModule, lr: "${{trainer.max_epochs}}"}}
trainer: {{max_epochs: 1, {QUIET}, default_root_dir: "${{oc.env:FOLDER}}"}}
callbacks:
  a: {{_target_: tests.config.test_saved.Sends, token: "${{oc.env:TOKEN}}"}}
  b: {{_target_: tests.config.test_saved.Sends, token: "Bearer ${{callbacks.a.token}}"}}
  c: {{_target_: tests.config.test_saved.Sends, token: "${{oc.${{callbacks.c.kind}}:TOKEN}}", kind: env}}
  d: {{_target_: tests.config.test_saved.Sends, token: "\\\\${{not_mine}}"}}
"""


class Sends(Callback):
    def __init__(self, token: str, kind: str = "", more: str = "") -> None:
        self.token = token

    def on_fit_end(self) -> None:
        pass

    # What a checkpoint says of a callback with a state, its arguments, is searched as well.
    def state_dict(self) -> dict[str, int]:
        return {"sent": 1}

    def load_state_dict(self, state: dict[str, int]) -> None:
        pass


@pytest.fixture
def secrets(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("TOKEN", SECRET)
    monkeypatch.setenv("FOLDER", str(tmp_path / "runs"))


@pytest.mark.usefixtures("secrets")
@pytest.mark.parametrize("overrides", [[], ["callbacks.d.more=${oc.env:TOKEN}", "callbacks.a=null"]])
def test_what_a_resolver_answers_is_not_kept(write_config: Write, overrides: list[str]) -> None:
    path = write_config(WITH_SECRET.replace("${callbacks.a.token}", "${oc.env:TOKEN}") if overrides else WITH_SECRET)
    folder = fit(path, *overrides)

    assert not [file for file in folder.rglob("*") if file.is_file() and SECRET.encode() in file.read_bytes()]
    assert "token: ${oc.${callbacks.c.kind}:TOKEN}" in (folder / "config.yaml").read_text()
    assert read(folder / "config.yaml").sections() == read(path, overrides).sections()
    assert read(folder / "config.yaml").callbacks["c"]["token"] == SECRET  # type: ignore[index]


@pytest.mark.usefixtures("secrets")
def test_what_is_kept_of_interpolations_leaves_out_last(write_config: Write) -> None:
    path = write_config(WITH_SECRET)
    assert SavedConfig(read(path, ["ckpt_path=last"])).config.to_yaml() == read(path).to_yaml()


@pytest.mark.filterwarnings("ignore:register_new_resolver")  # the other name is not in all versions
def test_a_resolver_that_always_answers_differently_is_told(write_config: Write) -> None:
    answers = itertools.count()
    OmegaConf.register_new_resolver("next_answer", lambda: f"{next(answers)}")
    try:
        path = write_config(
            BASE + "callbacks: {a: {_target_: tests.config.test_saved.Sends, token: '${next_answer:}'}}"
        )
        with pytest.warns(UserWarning, match="is not kept in .*: a value in it is another one when it is read back"):
            folder = fit(path)
    finally:
        OmegaConf.clear_resolver("next_answer")
    assert files(folder) == []


def test_the_copy_of_a_private_file_is_private(write_config: Write) -> None:
    path = write_config(BASE)
    Path(path).chmod(0o600)
    assert (fit(path) / "config.yaml").stat().st_mode & 0o777 == 0o600
