"""The pages say what the code does."""

from __future__ import annotations

import dataclasses
import functools
import re
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any, get_args

import pytest
import torch
import torchmetrics
from omegaconf import OmegaConf

import trainkit
from trainkit.callbacks import ModelCheckpoint
from trainkit.cli.main import COMMANDS
from trainkit.config import from_config, read
from trainkit.errors import UnknownArgumentError
from trainkit.hooks.specs import HOOKS
from trainkit.interval import Unit, read_interval
from trainkit.module.optimizers import SchedulerConfig
from trainkit.testing import Recorder, TinyData, TinyModule, quiet_trainer

DOCS = Path(__file__).parents[1] / "docs"

OUTSIDE_THE_PAGE = {"on_log", "on_exception", "on_load_checkpoint"}


def blocks(page: str, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", (DOCS / page).read_text(), re.DOTALL | re.MULTILINE)


def names_on_the_page() -> list[str]:
    """Return the hooks and methods of the big block, in order; one followed by ``...`` is told in full below."""
    (block,) = blocks("explanation/loop.md", "text")
    names = re.findall(r"^ {0,14}(\w+)(?: (?!\.\.\.).*)?$", block, re.MULTILINE)
    return [name for name in names if name not in OUTSIDE_THE_PAGE]


def noting(recorder: Recorder, methods: list[str]) -> TinyModule:
    """Return a module that writes the calls of its own methods into the recorder's list."""

    class Noting(TinyModule):
        pass

    def noted(method: Any) -> Any:
        @functools.wraps(method)
        def call(*args: Any, **kwargs: Any) -> Any:
            recorder.note(method.__name__)
            return method(*args, **kwargs)

        return call

    for name in methods:
        setattr(Noting, name, noted(getattr(TinyModule, name)))
    return Noting()


def without_sanity_check(names: list[str]) -> list[str]:
    start, end = names.index("on_sanity_check_start"), names.index("on_sanity_check_end")
    return names[: start + 1] + names[end:]


def test_loop_page_shows_the_order_of_a_run() -> None:
    page = names_on_the_page()
    recorder = Recorder()
    module = noting(recorder, [name for name in page if name not in HOOKS])

    quiet_trainer(callbacks=[recorder], num_sanity_val_steps=1).fit(module, TinyData(1), TinyData(1))

    calls = [name for name in recorder.names if not name.startswith("end of") and name not in OUTSIDE_THE_PAGE]
    transfer = ("on_before_batch_transfer", "transfer_batch_to_device", "on_after_batch_transfer")
    of_validation = [name for name in without_sanity_check(calls) if name not in transfer]
    assert of_validation == [name for name in page if name not in transfer]
    trained = calls[calls.index("on_train_epoch_start") :]
    assert tuple(trained[1:4]) == transfer


def test_plugins_of_the_hooks_page_run(capsys: pytest.CaptureFixture[str]) -> None:
    names: dict[str, Any] = {"__name__": "hooks_page", "time": time}
    for block in blocks("explanation/hooks.md", "python"):
        exec(compile(block, "hooks.md", "exec"), names)
    stop_on_plateau = names["StopOnPlateau"]()
    trainer = quiet_trainer(callbacks=[stop_on_plateau, names["Timed"]()], max_epochs=10)

    trainer.fit(TinyModule(lr=0.0), TinyData(1), TinyData(1))

    assert trainer.current_epoch == 4
    assert len(capsys.readouterr().out.splitlines()) == 4


def test_configuration_page_shows_every_section_and_a_true_message(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (example,) = blocks("reference/configuration.md", "yaml")
    (message,) = blocks("reference/configuration.md", "text")
    Path("config.yaml").write_text(example)
    config = read("config.yaml")
    Path("config.yaml").write_text(example.replace("hidden:", "hiden:").replace("mine:", "# mine:"))

    assert set(OmegaConf.load("config.yaml")) == set(config.sections())
    with pytest.raises(UnknownArgumentError) as caught:
        from_config("config.yaml", ["trainer.precision=32-true"])
    assert f"UnknownArgumentError: {caught.value}\n" == message


def test_command_line_page_lists_every_command() -> None:
    listing = blocks("reference/command-line.md", "text")[0]

    assert re.findall(r"^trainkit ([\w-]+)", listing, re.MULTILINE) == list(COMMANDS)


@pytest.mark.parametrize("block", blocks("how-to/optimizers.md", "python"))
def test_optimizers_page_trains(block: str) -> None:
    # What the blocks before it have imported.
    space: dict[str, Any] = {"torch": torch, "Muon": torch.optim.Muon, "AdamW": torch.optim.AdamW}
    space |= {name: getattr(trainkit, name) for name in ("JointOptimizer", "split_parameters")}
    exec(block, space)
    module = type("Module", (TinyModule,), {"configure_optimizers": space["configure_optimizers"]})()
    trainer = quiet_trainer(max_epochs=2)
    trainer.fit(module, TinyData(3), TinyData(1))
    assert trainer.global_step == 6


def test_optimizers_of_a_configuration_are_made_as_the_page_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (config,) = blocks("how-to/optimizers.md", "yaml")
    (code,) = blocks("how-to/optimizers.md", "py")
    imports = """
from collections.abc import Callable
import trainkit as tk
from torch import nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler
from trainkit.testing import TinyModule
"""
    (tmp_path / "my_project.py").write_text(imports + code.replace("tk.TrainModule", "TinyModule"))
    (tmp_path / "config.yaml").write_text(config)
    monkeypatch.syspath_prepend(str(tmp_path))
    overrides = ["trainer={max_epochs: 1, logger: false, enable_checkpointing: false, enable_progress_bar: false}"]
    trainer, module, _ = from_config(tmp_path / "config.yaml", [*overrides, "trainer.accelerator=cpu"])

    trainer.fit(module, TinyData(2))

    assert type(trainer.optimizers[0]).__name__ == "AdamW"
    assert trainer.optimizers[0].param_groups[0]["weight_decay"] == 0.01


def test_optimizers_page_draws_the_schedule_of_its_example(capsys: pytest.CaptureFixture[str]) -> None:
    drawn, *_ = blocks("how-to/optimizers.md", "text")
    space: dict[str, Any] = {"Muon": torch.optim.Muon, "AdamW": torch.optim.AdamW}
    space |= {name: getattr(trainkit, name) for name in ("JointOptimizer", "split_parameters")}
    (example,) = (block for block in blocks("how-to/optimizers.md", "python") if "SequentialLR" in block)
    exec(example, space)

    class Module(TinyModule):
        configure_optimizers = space["configure_optimizers"]

        def on_train_batch_end(self) -> None:
            self.trainer.should_stop = True

    quiet_trainer(max_epochs=3, print_schedule=True).fit(Module(), TinyData(400))
    assert capsys.readouterr().out == drawn


def test_optimizers_page_has_every_key_of_a_scheduler() -> None:
    table = (DOCS / "how-to/optimizers.md").read_text().partition("| Key |")[2].partition("\n\n")[0]
    fields = {field.name: field.default for field in dataclasses.fields(SchedulerConfig)}
    rows = [line.replace('"', "'").split("|") for line in table.splitlines() if line.startswith("| `")]
    shown = {key.strip(" `"): default.strip(" `") for _, key, default, *_ in rows}
    defaults = {key: repr(value) for key, value in fields.items() if value not in (None, dataclasses.MISSING)}
    assert shown == dict.fromkeys(fields, "") | defaults


def test_intervals_page_trains_and_every_interval_on_it_is_one(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    space: dict[str, Any] = {"torch": torch, "trainkit": trainkit, "ModelCheckpoint": ModelCheckpoint}
    for block in blocks("how-to/intervals.md", "python"):
        exec(block, space)
    module = type("Module", (TinyModule,), {"configure_optimizers": space["configure_optimizers"]})()
    with pytest.warns(UserWarning, match="every='500 steps' of StepLR is never reached, as the run ends after 3 steps"):
        quiet_trainer().fit(module, TinyData(3))
    table = (DOCS / "how-to/intervals.md").read_text().partition("| Unit |")[2].partition("\n\n")[0]
    shown = re.findall(r'`"(.+?)"`', table)
    assert {read_interval("every", text, "page").unit for text in shown} == set(get_args(Unit))


@pytest.mark.filterwarnings("ignore:epoch 0 has made no update")
def test_logging_page_updates_and_calls_metrics() -> None:
    space: dict[str, Any] = {}
    for block in blocks("how-to/logging.md", "python"):
        exec(block, space)

    class Module(TinyModule):
        training_step, validation_step = space["training_step"], space["validation_step"]

        def __init__(self) -> None:
            super().__init__(out_features=1)
            self.automatic_optimization = False  # the steps of the page have no loss
            self.accuracy, self.train_accuracy, self.train_f1 = (torchmetrics.MeanMetric() for _ in range(3))

    batch = SimpleNamespace(x=torch.ones(2, 4), y=torch.ones(2, 1))
    trainer = quiet_trainer()
    trainer.fit(Module(), [batch], [batch])
    assert {"val/accuracy", "train/accuracy", "train/f1"} <= trainer.callback_metrics.keys()


def test_data_loading_page_serves_batches() -> None:
    names: dict[str, Any] = {}
    exec(compile(blocks("how-to/data-loading.md", "python")[0], "data-loading.md", "exec"), names)

    assert [len(batch) for batch in names["train"]] == [2] * 4
    assert [list(batch) for batch in names["named"]] == [["image", "label"]] * 4
