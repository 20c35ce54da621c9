"""trainkit's callbacks under Lightning's names: its arguments, its calls of super(), its isinstance()."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

import trainkit.compat.lightning as pl
from trainkit.errors import ConfigError, NotAttachedError, UnknownArgumentError
from trainkit.testing import TinyData, TinyModule, quiet_trainer


class Module(pl.LightningModule, TinyModule):
    """A module in Lightning's words."""


def fit(*callbacks: Any, module: Any = None, **arguments: Any) -> pl.Trainer:
    quiet: dict[str, Any] = {
        "accelerator": "cpu",
        "max_epochs": 2,
        "num_sanity_val_steps": 0,
        "logger": False,
        "enable_progress_bar": any(isinstance(callback, pl.callbacks.ProgressBar) for callback in callbacks),
        "enable_model_summary": False,
        "enable_checkpointing": any(isinstance(callback, pl.callbacks.Checkpoint) for callback in callbacks),
    }
    trainer = pl.Trainer(callbacks=list(callbacks), **(quiet | arguments))
    trainer.fit(module or TinyModule(), TinyData(2), TinyData(1))
    return trainer


def test_a_subclass_may_call_super_with_all_that_it_got(tmp_path: Path) -> None:
    seen = []

    class Checkpoint(pl.callbacks.ModelCheckpoint):
        def setup(self, trainer: Any, pl_module: Any, stage: str) -> None:
            super().setup(trainer, pl_module, stage=stage)

        def on_validation_end(self, trainer: Any, pl_module: Any) -> None:
            super().on_validation_end(trainer, pl_module)
            seen.append("checkpoint")

    class Stopping(pl.callbacks.EarlyStopping):
        def on_train_epoch_end(self, trainer: Any, pl_module: Any) -> None:
            super().on_train_epoch_end(trainer, pl_module)
            seen.append("stopping")

    class Bar(pl.callbacks.TQDMProgressBar):
        def on_train_batch_end(self, trainer: Any, model: Any, out: Any, batch: Any, i: int) -> None:
            super().on_train_batch_end(trainer, model, out, batch, i)
            seen.append((i + 1) / self.total_train_batches)

    checkpoint = Checkpoint(tmp_path, monitor="val/loss", save_top_k=-1)
    fit(Stopping("val/loss"), Bar(), checkpoint)
    assert seen == [0.5, 1.0, "checkpoint", "stopping"] * 2
    assert sorted(path.name for path in tmp_path.iterdir()) == ["epoch=0-step=2.ckpt", "epoch=1-step=4.ckpt"]


def test_arguments_stand_in_lightnings_order(tmp_path: Path) -> None:
    checkpoint = pl.callbacks.ModelCheckpoint(tmp_path, None, "val/loss", False, None, 3, False, True, "max")
    assert (checkpoint.save_top_k, checkpoint.save_weights_only, checkpoint.mode) == (3, True, "max")
    stopping = pl.callbacks.EarlyStopping("val/loss", 0.1, 5, False, "max", False, True, 0.9)
    assert (stopping.patience, stopping.strict, stopping.stopping_threshold) == (5, False, 0.9)
    assert pl.callbacks.TQDMProgressBar(5, 0, True).leave
    theme = pl.callbacks.progress.rich_progress.RichProgressBarTheme(description="green")
    assert pl.callbacks.RichProgressBar(7, theme=theme).refresh_rate == 7
    assert pl.callbacks.RichModelSummary(max_depth=3, header_style="bold").max_depth == 3


def test_a_state_key_is_lightnings() -> None:
    key = pl.callbacks.EarlyStopping("val/loss").state_key
    assert key == "EarlyStopping{'monitor': 'val/loss', 'mode': 'min'}"


def test_two_callbacks_of_one_class_without_memory_are_no_clash() -> None:
    seen = []

    class Mine(pl.Callback):
        def __init__(self, name: str) -> None:
            self.label = name

        def on_train_start(self, trainer: Any, pl_module: Any) -> None:
            seen.append(self.label)

    fit(Mine("a"), Mine("b"))
    assert seen == ["a", "b"]


def test_lambda_callbacks_join_hooks_by_argument() -> None:
    seen = []
    fit(
        pl.callbacks.LambdaCallback(
            on_train_start=lambda trainer, pl_module: seen.append(trainer.max_epochs),
            on_train_batch_end=lambda *arguments: seen.append(len(arguments)),
            on_train_end=None,
        ),
        max_epochs=1,
    )
    assert seen == [1, 5, 5]
    with pytest.raises(UnknownArgumentError, match="did you mean 'on_train_start'"):
        pl.callbacks.LambdaCallback(on_train_strat=print)


def test_a_bar_shows_what_get_metrics_returns(capsys: pytest.CaptureFixture[str]) -> None:
    class Bar(pl.callbacks.TQDMProgressBar):
        def get_metrics(self, trainer: Any, pl_module: Any) -> dict[str, Any]:
            return {**super().get_metrics(trainer, pl_module), "answer": 42, "note": "text"}

    bar = Bar()
    trainer = fit(bar)
    assert {name: value.item() for name, value in bar.shown_metrics(trainer).items()} == {"answer": 42}
    assert "answer 42" in capsys.readouterr().out
    assert bar.total_val_batches == 1
    bar.disable()
    assert bar.is_disabled and not bar.is_enabled
    bar.enable()
    assert bar.is_enabled


@pytest.mark.filterwarnings("ignore:this checkpoint is saved in the middle of a step")
def test_an_exception_leaves_a_checkpoint_if_that_was_asked_for(tmp_path: Path) -> None:
    class Fails(TinyModule):
        def training_step(self, batch: Any, batch_idx: int) -> Any:
            if batch_idx == 1:
                raise ValueError("broken")
            return super().training_step(batch, batch_idx)

    for asked in (False, True):
        folder = tmp_path / str(asked)
        folder.mkdir()
        trainer = quiet_trainer(
            callbacks=[pl.callbacks.ModelCheckpoint(folder, save_on_exception=asked)], enable_checkpointing=True
        )
        with pytest.raises(ValueError, match="broken"):
            trainer.fit(Fails(), TinyData(2))
        assert [path.name for path in folder.iterdir()] == (["epoch=0-step=1.ckpt"] if asked else [])


def test_a_callback_logs_through_the_module() -> None:
    class Logs(pl.Callback):
        def on_train_epoch_end(self, trainer: Any, pl_module: Any) -> None:
            self.log("epoch/length", float(trainer.num_training_batches))
            self.log_dict({"epoch/number": float(trainer.current_epoch)})

    metrics = fit(Logs()).callback_metrics
    assert (metrics["epoch/length"], metrics["epoch/number"]) == (2.0, 1.0)
    with pytest.raises(NotAttachedError, match="Logs is in no run"):
        Logs().log("loss", 1.0)


def test_a_callback_that_is_appended_joins_the_next_run() -> None:
    seen = []

    class Late(pl.Callback):
        def on_train_start(self, trainer: Any, pl_module: Any) -> None:
            seen.append("called")

        def on_test_start(self, trainer: Any, pl_module: Any) -> None:
            seen.append("tested")

    trainer = pl.Trainer(accelerator="cpu", logger=False, fast_dev_run=True, enable_progress_bar=False)
    trainer.callbacks.append(Late())
    trainer.fit(TinyModule(), TinyData(1))
    trainer.test(TinyModule(), TinyData(1), verbose=False)
    assert seen == ["called", "tested"]


def test_the_accumulation_schedule_holds() -> None:
    assert fit(pl.callbacks.GradientAccumulationScheduler({0: 2})).global_step == 2


@pytest.mark.filterwarnings("ignore:this checkpoint is saved in the middle of a step")
def test_a_checkpoint_is_saved_when_an_exception_ends_a_fit(tmp_path: Path) -> None:
    class Breaks(Module):
        def training_step(self, batch: Any, batch_idx: int) -> Any:
            if batch_idx == 1:
                raise ZeroDivisionError
            return super().training_step(batch, batch_idx)

    callback = pl.callbacks.OnExceptionCheckpoint(tmp_path, "broken")
    module = Breaks()
    with pytest.raises(ZeroDivisionError):
        fit(callback, module=module)
    assert callback.ckpt_path == str(tmp_path / "broken.ckpt")
    assert Breaks.load_from_checkpoint(callback.ckpt_path).layer.weight.equal(module.layer.weight)
    with pytest.raises(ConfigError, match="filename is empty"):
        pl.callbacks.OnExceptionCheckpoint(tmp_path, "")


def test_a_finetuning_is_written_with_lightnings_arguments() -> None:
    class Late(pl.callbacks.BaseFinetuning):
        def freeze_before_training(self, pl_module: Any) -> None:
            self.freeze(pl_module.layer)

        def finetune_function(self, pl_module: Any, current_epoch: int, optimizer: Any) -> None:
            if current_epoch == 1:
                self.unfreeze_and_add_param_group(modules=pl_module.layer, optimizer=optimizer, lr=0.5)

    class Frozen(Module):
        def __init__(self) -> None:
            super().__init__()
            self.scale = torch.nn.Parameter(torch.ones(1))

        def forward(self, x: Any) -> Any:
            return super().forward(x) * self.scale

        def configure_optimizers(self) -> Any:
            return torch.optim.SGD([self.scale], lr=0.1)

    trainer = fit(Late(), module=Frozen())
    assert [group["lr"] for group in trainer.optimizers[0].param_groups] == [0.1, 0.5]


def test_a_progress_bar_of_the_users_own_draws_nothing_else(
    capsys: pytest.CaptureFixture[str],
) -> None:
    class Percent(pl.callbacks.ProgressBar):
        def __init__(self) -> None:
            super().__init__()
            self.enable = True  # as the documentation of Lightning shows it

        def disable(self) -> None:
            self.enable = False

        def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
            super().on_train_batch_end(trainer, pl_module, outputs, batch, batch_idx)
            print(f"{100 * (batch_idx + 1) / self.total_train_batches:.0f} %")

    fit(Percent(), max_epochs=1)
    said = capsys.readouterr()
    assert (said.out, said.err) == ("50 %\n100 %\n", "")


def test_what_is_asked_of_a_bar_of_tqdm_is_accepted() -> None:
    class Bar(pl.callbacks.TQDMProgressBar):
        def init_train_tqdm(self) -> Any:
            bar = super().init_train_tqdm()
            bar.set_description("training")
            return bar

        def on_train_epoch_start(self, trainer: Any, *args: Any) -> None:
            super().on_train_epoch_start(trainer, *args)
            self.train_progress_bar.set_description(f"epoch {trainer.current_epoch}")
            self.train_progress_bar.n += 1

    assert fit(Bar()).global_step == 4
    assert Bar().init_train_tqdm().total is None


def test_an_early_stopping_of_the_users_own_looks_where_it_wants() -> None:
    class AtBatches(pl.callbacks.EarlyStopping):
        def on_validation_end(self, trainer: Any, pl_module: Any) -> None:
            pass

        def on_train_epoch_end(self, trainer: Any, pl_module: Any) -> None:
            pass

        def on_train_batch_end(self, trainer: Any, *args: Any) -> None:
            self._run_early_stopping_check(trainer)

    stopping = AtBatches("train/loss", stopping_threshold=100.0)
    assert fit(stopping).global_step == 1
    assert bool(stopping.monitor_op(torch.tensor(1.0), torch.tensor(2.0)))


def test_checkpoints_tell_loggers_and_files_of_what_they_keep(tmp_path: Path) -> None:
    class Hears(pl.loggers.logger.DummyLogger):
        saved = 0

        def after_save_checkpoint(self, checkpoint_callback: Any) -> None:
            self.saved += 1
            assert Path(checkpoint_callback.best_model_path).exists()

    logger = Hears()
    checkpoint = pl.callbacks.ModelCheckpoint(tmp_path, monitor="val/loss", save_top_k=-1, every_n_epochs=1)
    trainer = fit(checkpoint, logger=logger)
    assert (logger.saved, checkpoint.every_n_epochs) == (2, 1)
    assert checkpoint.file_exists(checkpoint.best_model_path, trainer)
    checkpoint.to_yaml()
    written = (tmp_path / "best_k_models.yaml").read_text()
    assert all(path in written for path in checkpoint.best_k_models)


def test_a_callback_with_state_may_ask_super_and_one_without_has_none() -> None:
    class Counts(pl.Callback):
        count = 3

        def state_dict(self) -> dict[str, Any]:
            return super().state_dict() | {"count": self.count}

        def load_state_dict(self, state_dict: dict[str, Any]) -> None:
            super().load_state_dict(state_dict)
            self.count = state_dict["count"]

    counts = Counts()
    assert counts.state_dict() == {"count": 3}
    counts.load_state_dict({"count": 5})
    assert counts.count == 5
    assert not hasattr(pl.Callback(), "state_dict") and not hasattr(pl.Callback(), "load_state_dict")
    fit(pl.callbacks.LambdaCallback(), pl.callbacks.LambdaCallback())  # two without state do not clash
