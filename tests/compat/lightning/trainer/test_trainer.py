from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

import trainkit.compat.lightning as pl
from trainkit.errors import ConfigError, UnknownArgumentError
from trainkit.precision.dtypes import Float64
from trainkit.testing import TinyData, TinyModule

QUIET: dict[str, Any] = {
    "accelerator": "cpu",
    "max_epochs": 1,
    "num_sanity_val_steps": 0,
    "logger": False,
    "enable_progress_bar": False,
    "enable_model_summary": False,
    "enable_checkpointing": False,
}


def test_entry_points_take_lightnings_names() -> None:
    trainer, module, data = pl.Trainer(**QUIET), TinyModule(), TinyData(2)
    trainer.fit(model=module, train_dataloaders=data, val_dataloaders=data, weights_only=False)
    (validated,) = trainer.validate(model=module, dataloaders=data, verbose=False)
    (tested,) = trainer.test(module, data, None, False)
    predicted = trainer.predict(model=module, dataloaders=data, return_predictions=True)
    assert validated["val/loss"] == tested["test/loss"]
    assert len(predicted) == 2


def test_defaults_are_of_the_kinds_that_lightnings_users_ask_for(tmp_path: Path) -> None:
    trainer = pl.Trainer(accelerator="cpu", max_epochs=1, default_root_dir=tmp_path)
    assert [type(callback) for callback in trainer.callbacks] == [
        pl.callbacks.TQDMProgressBar,
        pl.callbacks.ModelSummary,
        pl.callbacks.ModelCheckpoint,
    ]
    assert [type(logger) for logger in trainer.loggers] == [pl.loggers.TensorBoardLogger, pl.loggers.CSVLogger]
    assert trainer.log_dir == str(tmp_path / "lightning_logs" / "version_0")


def test_a_default_gives_way_to_a_callback_of_its_kind() -> None:
    checkpoint = pl.callbacks.ModelCheckpoint(monitor="val/loss")
    trainer = pl.Trainer(**(QUIET | {"enable_checkpointing": None}), callbacks=checkpoint)
    assert trainer.callbacks == trainer.checkpoint_callbacks == [checkpoint]


@pytest.mark.parametrize("quiet", [{"barebones": True}, {"fast_dev_run": True, "logger": False}])
def test_runs_that_save_nothing_have_no_checkpoint_callback(quiet: dict[str, Any]) -> None:
    trainer = pl.Trainer(accelerator="cpu", **quiet)
    assert trainer.checkpoint_callback is None
    assert trainer.loggers == []


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ({"precision": "64-true"}, torch.float64),
        ({"precision": 64}, torch.float64),
        ({"plugins": pl.plugins.DoublePrecision()}, torch.float64),
        ({"plugins": [pl.plugins.HalfPrecision("bf16-true")]}, torch.bfloat16),
        ({"precision": "bf16-mixed"}, torch.float32),
        ({"plugins": [pl.plugins.MixedPrecision("bf16-mixed", "cpu")]}, torch.float32),
        ({"accelerator": pl.accelerators.CPUAccelerator()}, torch.float32),
        ({"strategy": pl.strategies.SingleDeviceStrategy("cpu")}, torch.float32),
        ({"strategy": pl.strategies.DDPStrategy(find_unused_parameters=False), "devices": 1}, torch.float32),
        ({"strategy": "ddp_find_unused_parameters_false", "devices": 1}, torch.float32),
        ({"profiler": pl.profilers.PassThroughProfiler()}, torch.float32),
        ({"enable_autolog_hparams": False, "model_registry": None, "plugins": []}, torch.float32),
        ({"plugins": {"disable": ["MetricRows"]}}, torch.float32),
    ],
)
def test_lightnings_objects_are_arguments(arguments: dict[str, Any], expected: torch.dtype) -> None:
    module = TinyModule()
    pl.Trainer(**(QUIET | arguments)).fit(module, TinyData(1))
    assert module.layer.weight.dtype == expected


def test_a_profiler_asks_for_a_table_and_marks_the_users_own_actions(tmp_path: Path) -> None:
    profiler = pl.profilers.SimpleProfiler(dirpath=tmp_path, filename="mine")
    trainer = pl.Trainer(**QUIET, profiler=profiler)
    assert trainer.profiler is profiler
    trainer.fit(TinyModule(), TinyData(1))
    assert "seconds" in (tmp_path / "mine.txt").read_text()
    with torch.profiler.profile() as recorded, trainer.profiler.profile("my action"):
        torch.zeros(1)
    assert "my action" in [event.key for event in recorded.key_averages()]


def test_a_compiled_module_is_trained_as_the_module_in_it() -> None:
    compiled = []

    class Counts(TinyModule):
        def compile(self) -> None:
            compiled.append(self)

    module = Counts()
    wrapped: Any = torch.compile(module)
    before = module.layer.weight.clone()
    trainer = pl.Trainer(**QUIET)
    trainer.fit(wrapped, TinyData(1))
    assert trainer.module is module
    assert compiled == [module]
    assert not torch.equal(module.layer.weight, before)


def test_parts_are_read_by_lightnings_names() -> None:
    trainer = pl.Trainer(**QUIET, precision="64")
    assert isinstance(trainer.accelerator, pl.accelerators.CPUAccelerator)
    assert isinstance(trainer.precision_plugin, Float64) and str(trainer.precision) == "64-true"
    assert trainer.device_ids == [0]
    assert trainer.scaler is None
    assert not trainer.received_sigterm
    assert not trainer.enable_validation
    trainer.fit(TinyModule(), TinyData(1), TinyData(1))
    assert trainer.enable_validation


def test_states_equal_lightnings_words() -> None:
    seen = []

    class Look(pl.Callback):
        def on_train_start(self, trainer: Any, pl_module: Any) -> None:
            self.look(trainer)

        def on_validation_start(self, trainer: Any, pl_module: Any) -> None:
            self.look(trainer)

        def look(self, trainer: Any) -> None:
            states = pl.trainer.states
            assert trainer.state.fn == states.TrainerFn.FITTING
            assert trainer.state.status == states.TrainerStatus.RUNNING
            seen.append(states.RunningStage(trainer.state.stage))

    trainer = pl.Trainer(**(QUIET | {"num_sanity_val_steps": 1}), callbacks=[Look()])
    trainer.fit(TinyModule(), TinyData(1), TinyData(1))
    stages = pl.trainer.states.RunningStage
    assert seen == [stages.SANITY_CHECKING, stages.TRAINING, stages.VALIDATING]
    assert [stage.evaluating for stage in seen] == [True, False, True]
    assert pl.trainer.states.TrainerStatus(trainer.state.status).stopped


def test_what_cannot_be_is_refused() -> None:
    with pytest.raises(UnknownArgumentError, match="did you mean 'max_epochs'"):
        pl.Trainer(max_epoch=1)
    with pytest.raises(ConfigError, match="a Sequential is not supported"):
        pl.Trainer(plugins=[torch.nn.Sequential()])
    with pytest.raises(UnknownArgumentError, match="unknown argument 'model_averaging_period'"):
        pl.strategies.DDPStrategy(model_averaging_period=2)
    with pytest.raises(ConfigError, match="ddp_comm_wrapper is for a ddp_comm_hook"):
        pl.strategies.DDPStrategy(ddp_comm_wrapper=print)
    with pytest.raises(ConfigError, match="model_registry"):
        pl.Trainer(model_registry="somewhere")
    with pytest.raises(ConfigError, match="did you mean '16-mixed'"):
        pl.plugins.MixedPrecision("16-mixd", "cuda")
