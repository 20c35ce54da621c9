from __future__ import annotations

import inspect
import os
import subprocess
import sys
import textwrap
import typing
from pathlib import Path

import pytest
import torch

import trainkit
from trainkit import Trainer
from trainkit.errors import ConfigError, ModuleError, NotAttachedError, UnknownArgumentError
from trainkit.loggers.csv import CSVLogger
from trainkit.loggers.tensorboard.logger import TensorBoardLogger
from trainkit.testing import Recorder, TinyData, TinyModule, quiet_trainer

# The signature


def options():
    """Return the keyword arguments of the Trainer, as its signature shows them."""
    parameters = inspect.signature(Trainer).parameters.values()
    return {parameter.name: parameter for parameter in parameters if parameter.kind is parameter.KEYWORD_ONLY}


SETTINGS = ("stop", "data", "optimization", "output")


def settings(trainer):
    return {name: value for group in SETTINGS for name, value in vars(getattr(trainer.arguments, group)).items()}


MEANT_BY_NONE = {
    "limit_train_batches": 1.0,
    "limit_val_batches": 1.0,
    "limit_test_batches": 1.0,
    "limit_predict_batches": 1.0,
    "val_check_interval": 1.0,
    "num_sanity_val_steps": 2,
    "log_every_n_steps": 50,
    "enable_checkpointing": True,
    "enable_progress_bar": True,
    "enable_model_summary": True,
}
"""Where the signature says None and something else is meant: the defaults of Lightning."""


def test_the_signature_shows_the_default_of_every_argument():
    shown = {name: parameter.default for name, parameter in options().items()}
    assert inspect.Parameter.empty not in shown.values()
    chosen = settings(Trainer(accelerator="cpu", logger=False))
    assert chosen == {name: MEANT_BY_NONE.get(name, shown[name]) for name in chosen}


@pytest.mark.parametrize("name", sorted(MEANT_BY_NONE))
def test_none_is_the_default_where_the_signature_says_none(name):
    assert options()[name].default is None
    trainer = Trainer(accelerator="cpu", logger=False, **{name: None})
    assert settings(trainer)[name] == MEANT_BY_NONE[name]


def test_a_default_that_is_given_is_the_default():
    shown = {name: parameter.default for name, parameter in options().items()}
    given = Trainer(**(shown | {"accelerator": "cpu", "logger": False}))
    assert settings(given) == settings(Trainer(accelerator="cpu", logger=False))


def test_every_argument_is_documented_and_typed():
    hints = typing.get_type_hints(Trainer.__init__)
    documented = inspect.getdoc(Trainer)
    for name in options():
        assert f"\n    {name}: " in documented
        assert name in hints
    assert hints["unknown"] is typing.Never


def test_an_argument_that_there_is_not_is_refused_with_the_nearest_one():
    with pytest.raises(UnknownArgumentError, match="max_epochz[\\s\\S]*max_epochs"):
        Trainer(max_epochz=1)


@pytest.mark.slow
def test_mypy_knows_the_arguments(tmp_path):
    program = tmp_path / "program.py"
    program.write_text(
        textwrap.dedent(
            """
            from typing import Any
            from trainkit import Trainer

            Trainer(max_epochs=1)
            Trainer(max_epochz=1)
            Trainer(max_epochs="1")
            arguments: dict[str, Any] = {}
            Trainer(**arguments)
            """
        )
    )
    root = Path(trainkit.__file__).parent.parent
    done = subprocess.run(
        [sys.executable, "-m", "mypy", "--strict", "--no-error-summary", "--cache-dir", str(tmp_path), str(program)],
        env=os.environ | {"MYPYPATH": str(root)},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    lines = [int(line.split(":")[1]) for line in done.stdout.splitlines() if "error:" in line]
    assert lines == [6, 7], done.stdout + done.stderr


def test_barebones_leaves_out_everything_optional():
    trainer = Trainer(accelerator="cpu", barebones=True)
    chosen = settings(trainer)
    assert (trainer.loggers, trainer.callbacks) == ([], [])
    assert [chosen[name] for name in chosen if name.startswith("enable_")] == [False] * 3
    assert trainer.log_every_n_steps == 0


def test_the_defaults_write_to_tensorboard_and_csv_files(tmp_path):
    for given in ({}, {"logger": True}):
        trainer = Trainer(accelerator="cpu", default_root_dir=tmp_path, **given)
        assert [type(logger) for logger in trainer.loggers] == [TensorBoardLogger, CSVLogger]
    assert list(tmp_path.iterdir()) == [], "making a Trainer writes nothing"


def test_checks_come_before_anything_is_started():
    with pytest.raises(ConfigError, match="max_epochs=-2"):
        Trainer(max_epochs=-2, strategy="ddp", logger=True)


# One call at a time


@pytest.mark.parametrize("outer", ["fit", "validate", "test", "predict"])
@pytest.mark.parametrize("inner", ["fit", "validate", "test", "predict"])
def test_a_call_is_refused_while_one_is_running(outer, inner):
    module, other = TinyModule(), TinyModule()

    class Calls:
        def setup(self, trainer):
            with pytest.raises(NotAttachedError, match=rf"trainer.{inner}\(\) was called while trainer.{outer}\(\)"):
                getattr(trainer, inner)(other, TinyData(1))
            assert trainer.module is module
            assert trainer.state.status == "running"

    trainer = quiet_trainer(callbacks=[Calls()])
    getattr(trainer, outer)(module, TinyData(1))
    assert trainer.state.finished


def test_after_a_call_that_failed_there_is_another_one():
    class Fails:
        def on_train_batch_start(self):
            raise ValueError("in the middle")

    trainer = quiet_trainer(callbacks=[Fails()])
    with pytest.raises(ValueError, match="in the middle"):
        trainer.fit(TinyModule(), TinyData(2))
    trainer.validate(TinyModule(), TinyData(1), verbose=False)
    assert trainer.state.finished


def failing_module():
    class Fails(TinyModule):
        def configure_model(self):
            raise ValueError("while it is prepared")

    return Fails()


def test_a_first_call_that_failed_while_being_prepared_is_seen():
    trainer, module = quiet_trainer(), failing_module()
    with pytest.raises(ValueError, match="while it is prepared"):
        trainer.fit(module, TinyData(1))
    assert trainer.module is module
    assert trainer.interrupted
    with pytest.raises(NotAttachedError, match="is being prepared"):
        _ = trainer.run
    with pytest.raises(NotAttachedError, match="no module to save"):
        trainer.dump_checkpoint()


def test_of_a_later_call_that_failed_while_being_prepared_the_status_alone_is_seen():
    trainer, module = quiet_trainer(), TinyModule()
    trainer.fit(module, TinyData(2))
    run = trainer.run
    with pytest.raises(ValueError, match="while it is prepared"):
        trainer.validate(failing_module(), TinyData(1))
    assert trainer.interrupted
    assert trainer.state.fn == "validate"
    assert trainer.phase is None
    assert trainer.module is module
    assert trainer.run is run
    assert trainer.dump_checkpoint()["global_step"] == 2


def test_a_call_that_failed_after_it_was_prepared_is_the_one_that_is_seen():
    class Fails(TinyModule):
        def validation_step(self, batch, batch_idx):
            raise ValueError("in its loop")

    trainer, failing = quiet_trainer(), Fails()
    trainer.fit(TinyModule(), TinyData(2))
    with pytest.raises(ValueError, match="in its loop"):
        trainer.validate(failing, TinyData(1))
    assert trainer.module is failing
    assert "optimizer_states" not in trainer.dump_checkpoint(), "the fit was of another module"


def test_what_is_no_module_begins_no_call():
    trainer, module = quiet_trainer(), TinyModule()
    trainer.fit(module, TinyData(1))
    with pytest.raises(ModuleError):
        trainer.validate(3, TinyData(1))
    assert trainer.state.finished
    assert trainer.module is module


def test_the_module_of_the_last_call_need_not_be_given_again():
    trainer, module = quiet_trainer(), TinyModule()
    trainer.fit(module, TinyData(1))
    trainer.validate(dataloaders=TinyData(1), verbose=False)
    assert trainer.module is module
    assert len(trainer.predict(dataloaders=TinyData(2))) == 2


@pytest.mark.parametrize("stage", ["validate", "test", "predict"])
def test_without_a_module_the_best_checkpoint_is_evaluated_and_said_to_be(tmp_path, stage):
    def fitted():
        trainer = quiet_trainer(enable_checkpointing=True, default_root_dir=tmp_path)
        trainer.fit(module, TinyData(2))
        best = module.layer.weight.clone()
        with torch.no_grad():
            module.layer.weight.zero_()
        return trainer, best

    module = TinyModule()
    trainer, best = fitted()
    with pytest.warns(UserWarning, match=rf"trainer.{stage}\(\) was called without a module"):
        getattr(trainer, stage)(dataloaders=TinyData(1))
    assert torch.equal(module.layer.weight, best)
    trainer, best = fitted()
    getattr(trainer, stage)(module, dataloaders=TinyData(1))
    assert module.layer.weight.eq(0).all(), "a module that is given is evaluated as it stands"


def test_counters_of_a_fit_are_there_again_after_the_evaluation_of_a_checkpoint(tmp_path):
    other = quiet_trainer()
    other.fit(TinyModule(), TinyData(5))
    other.save_checkpoint(tmp_path / "five.ckpt")
    recorder = Recorder(["on_test_start"], look=lambda trainer, module: trainer.global_step)
    trainer, module = quiet_trainer(callbacks=[recorder]), TinyModule()
    trainer.fit(module, TinyData(2))
    trainer.test(module, TinyData(1), ckpt_path=tmp_path / "five.ckpt", verbose=False)
    assert recorder.seen("on_test_start") == [5]
    assert trainer.global_step == 2


def test_a_checkpoint_that_is_given_goes_before_the_best_one(tmp_path):
    trainer, module = quiet_trainer(enable_checkpointing=True, default_root_dir=tmp_path), TinyModule()
    trainer.fit(module, TinyData(2))
    other = TinyModule(seed=3)
    quiet = quiet_trainer(max_epochs=0)
    quiet.fit(other, TinyData(1))
    quiet.save_checkpoint(tmp_path / "other.ckpt")
    trainer.validate(dataloaders=TinyData(1), ckpt_path=tmp_path / "other.ckpt", verbose=False)
    assert torch.equal(module.layer.weight, other.layer.weight)
    assert trainer.ckpt_path == str(tmp_path / "other.ckpt")


# What the entry points return


def test_a_fit_returns_nothing_and_predictions_only_if_they_are_wanted():
    trainer = quiet_trainer()
    assert trainer.fit(TinyModule(), TinyData(1)) is None
    assert trainer.predict(TinyModule(), TinyData(2), return_predictions=False) is None
    recorder = Recorder(["on_predict_batch_end"])
    quiet_trainer(callbacks=[recorder]).predict(TinyModule(), TinyData(2), return_predictions=False)
    assert recorder.count("on_predict_batch_end") == 2


def test_results_are_printed_where_that_is_wanted(capsys):
    trainer = quiet_trainer()
    trainer.test(TinyModule(), TinyData(1), verbose=False)
    assert capsys.readouterr().out == ""
    trainer.test(TinyModule(), TinyData(1))
    assert "test/loss" in capsys.readouterr().out


# Saving


@pytest.mark.parametrize("wrong", ["", None, 3])
def test_a_checkpoint_needs_a_path(wrong):
    trainer = quiet_trainer()
    trainer.fit(TinyModule(), TinyData(1))
    with pytest.raises(ConfigError, match="needs a path"):
        trainer.save_checkpoint(wrong)


def test_storage_options_are_refused(tmp_path):
    trainer = quiet_trainer()
    trainer.fit(TinyModule(), TinyData(1))
    with pytest.raises(ConfigError, match="storage_options"):
        trainer.save_checkpoint(tmp_path / "file.ckpt", storage_options={})


# What plugins and modules do through the Trainer


def test_rows_of_metrics_go_to_the_loggers_at_their_step():
    recorder = Recorder(["on_log"])
    trainer = quiet_trainer(callbacks=[recorder])
    trainer.fit(TinyModule(), TinyData(3))
    recorder.calls.clear()
    trainer.log_metrics({"a": 1.0})
    trainer.log_metrics({"a": 2.0}, step=0)
    trainer.log_metrics({})
    assert [(call["metrics"], call["step"]) for call in recorder.arguments("on_log")] == [
        ({"a": 1.0}, 3),
        ({"a": 2.0}, 0),
    ]


def test_rank_0_prints(capsys):
    trainer = quiet_trainer()
    trainer.print("one", "two", sep="-")
    trainer.strategy.rank = 1
    trainer.print("not this")
    assert capsys.readouterr().out == "one-two\n"


@pytest.mark.filterwarnings("ignore:epoch . has made no update")
def test_backward_by_hand_calls_the_hooks_of_backward():
    class Manual(TinyModule):
        automatic_optimization = False

        def training_step(self, batch, batch_idx):
            self.manual_backward(self.loss(batch), retain_graph=True)

    recorder = Recorder(["on_before_backward", "around_backward", "on_after_backward"])
    module = Manual()
    quiet_trainer(callbacks=[recorder]).fit(module, TinyData(1))
    assert recorder.names == ["on_before_backward", "around_backward", "end of around_backward", "on_after_backward"]
    assert module.layer.weight.grad is not None


def test_where_there_are_no_optimizers_a_module_has_none():
    class Module(TinyModule):
        found = ()

        def configure_optimizers(self):
            self.found = (*self.found, ("configure_optimizers", self.optimizers(), self.lr_schedulers()))
            return super().configure_optimizers()

        def test_step(self, batch, batch_idx):
            self.found = (*self.found, ("test_step", self.optimizers(), self.lr_schedulers()))

    trainer, module = quiet_trainer(), Module()
    trainer.fit(module, TinyData(1))
    trainer.test(module, TinyData(1), verbose=False)
    assert module.found == (("configure_optimizers", [], None), ("test_step", [], None))
