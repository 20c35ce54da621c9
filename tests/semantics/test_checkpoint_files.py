"""Which checkpoints a run writes, when, and under which names."""

from __future__ import annotations

import datetime
import math

import pytest
import torch
from torch.optim.lr_scheduler import ReduceLROnPlateau, StepLR

from trainkit.callbacks import ModelCheckpoint
from trainkit.errors import CheckpointError
from trainkit.testing import Recorder, TinyData, TinyModule, assert_same_state, assert_same_weights, quiet_trainer


class Scores(TinyModule):
    """Logs one given score in each validation."""

    def __init__(self, scores=(), name="val/score"):
        super().__init__()
        self.scores = iter(scores)
        self.name = name

    def on_validation_epoch_end(self):
        self.log(self.name, next(self.scores))

    def validation_step(self, batch, batch_idx):
        pass


def files(folder):
    """The names of the checkpoints in ``folder``."""
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*.ckpt"))


def fit(folder, module=None, *, num_batches=5, val=1, callbacks=(), trainer=None, **options):
    """Train 3 epochs with one `ModelCheckpoint` made from ``options``."""
    checkpoint = ModelCheckpoint(dirpath=folder, **options)
    trainer = quiet_trainer(
        **({"max_epochs": 3} | (trainer or {})), enable_checkpointing=True, callbacks=[checkpoint, *callbacks]
    )
    trainer.fit(module or TinyModule(), TinyData(num_batches), TinyData(1) if val else None)
    return checkpoint


def test_default_keeps_the_newest_named_by_epoch_from_zero_and_steps_done(tmp_path):
    checkpoint = fit(tmp_path)
    assert files(tmp_path) == ["epoch=2-step=15.ckpt"]
    assert checkpoint.best_model_path == str(tmp_path / "epoch=2-step=15.ckpt")


def test_default_checkpointing_writes_below_the_default_root_dir(tmp_path):
    trainer = quiet_trainer(enable_checkpointing=True, default_root_dir=tmp_path, max_epochs=2)
    trainer.fit(TinyModule(), TinyData(5))
    assert sorted(path.name for path in tmp_path.rglob("*.ckpt")) == ["epoch=1-step=10.ckpt", "last.ckpt"]


def test_monitor_keeps_the_best(tmp_path):
    checkpoint = fit(tmp_path, Scores([3.0, 1.0, 2.0]), monitor="val/score", save_top_k=2)
    assert files(tmp_path) == ["epoch=1-step=10.ckpt", "epoch=2-step=15.ckpt"]
    assert checkpoint.best_model_path == str(tmp_path / "epoch=1-step=10.ckpt")
    assert checkpoint.best_model_score == 1.0


def test_mode_max_keeps_the_highest(tmp_path):
    fit(tmp_path, Scores([3.0, 1.0, 2.0]), monitor="val/score", mode="max")
    assert files(tmp_path) == ["epoch=0-step=5.ckpt"]


def test_save_top_k_minus_one_keeps_all_and_zero_none(tmp_path):
    fit(tmp_path / "all", save_top_k=-1)
    fit(tmp_path / "none", save_top_k=0)
    assert files(tmp_path) == ["all/epoch=0-step=5.ckpt", "all/epoch=1-step=10.ckpt", "all/epoch=2-step=15.ckpt"]


def test_nan_ranks_worst(tmp_path):
    fit(tmp_path / "min", Scores([math.nan, 2.0, math.nan]), monitor="val/score")
    assert files(tmp_path / "min") == ["epoch=1-step=10.ckpt"]
    fit(tmp_path / "max", Scores([1.0, math.nan, math.nan]), monitor="val/score", mode="max", save_top_k=1)
    assert files(tmp_path / "max") == ["epoch=0-step=5.ckpt"]


def test_save_last_writes_last_ckpt_with_the_newest_state(tmp_path):
    module = Scores([1.0, 2.0, 3.0])
    fit(tmp_path, module, monitor="val/score", save_last=True)
    assert files(tmp_path) == ["epoch=0-step=5.ckpt", "last.ckpt"]
    saved = torch.load(tmp_path / "last.ckpt", weights_only=True)
    assert saved["global_step"] == 15
    assert_same_state(saved["state_dict"], dict(module.state_dict()))


def test_file_name_may_hold_metrics_and_a_slash_never_makes_a_folder(tmp_path):
    fit(tmp_path, Scores([0.25, 2.0, 3.0]), monitor="val/score", filename="best-{epoch}-{val/score:.2f}")
    assert files(tmp_path) == ["best-epoch=0-val-score=0.25.ckpt"]


def test_taken_name_gains_a_version(tmp_path):
    fit(tmp_path, save_top_k=-1, filename="model")
    assert files(tmp_path) == ["model-v1.ckpt", "model-v2.ckpt", "model.ckpt"]


def test_file_of_an_earlier_run_is_not_overwritten(tmp_path):
    fit(tmp_path, filename="model", trainer={"max_epochs": 1})
    first = (tmp_path / "model.ckpt").read_bytes()
    fit(tmp_path, TinyModule(seed=1), filename="model", trainer={"max_epochs": 1})
    assert files(tmp_path) == ["model-v1.ckpt", "model.ckpt"]
    assert (tmp_path / "model.ckpt").read_bytes() == first


def test_every_n_epochs(tmp_path):
    fit(tmp_path, save_top_k=-1, every_n_epochs=2, trainer={"max_epochs": 5})
    assert files(tmp_path) == ["epoch=1-step=10.ckpt", "epoch=3-step=20.ckpt"]


def test_every_n_train_steps_saves_in_mid_epoch(tmp_path):
    fit(tmp_path, save_top_k=-1, every_n_train_steps=4)
    assert files(tmp_path) == ["epoch=0-step=4.ckpt", "epoch=1-step=8.ckpt", "epoch=2-step=12.ckpt"]


def test_time_interval_saves_only_between_groups(tmp_path):
    recorder = Recorder(
        only=["on_save_checkpoint"],
        look=lambda trainer, module: (trainer.global_step, trainer.progress.total_batches),
    )
    fit(
        tmp_path,
        num_batches=4,
        val=0,
        save_top_k=-1,
        train_time_interval=datetime.timedelta(microseconds=1),
        callbacks=[recorder],
        trainer={"accumulate_grad_batches": 2, "max_epochs": 2},
    )
    assert recorder.seen("on_save_checkpoint") == [(1, 2), (2, 4), (3, 6), (4, 8)]


def test_save_point_is_after_each_validation_and_at_the_end_of_an_epoch_without_one(tmp_path):
    def saves(**trainer):
        recorder = Recorder(
            only=["on_save_checkpoint", "on_validation_end"],
            look=lambda trainer, module: trainer.progress.total_batches,
        )
        folder = tmp_path / str(len(list(tmp_path.iterdir())))
        fit(folder, num_batches=4, save_top_k=-1, callbacks=[recorder], trainer={"max_epochs": 2} | trainer)
        return recorder.seen("on_save_checkpoint"), recorder.seen("on_validation_end")

    assert saves() == ([4, 8], [4, 8])
    assert saves(val_check_interval=2) == ([2, 4, 6, 8], [2, 4, 6, 8])
    assert saves(check_val_every_n_epoch=2) == ([4, 8], [8])
    assert saves(limit_val_batches=0) == ([4, 8], [])


def test_nothing_is_saved_twice_at_one_global_step(tmp_path):
    recorder = Recorder(only=["on_save_checkpoint"], look=lambda trainer, module: trainer.global_step)
    fit(tmp_path, save_top_k=-1, every_n_train_steps=5, save_last=True, callbacks=[recorder], num_batches=5)
    assert len(recorder.seen("on_save_checkpoint")) == len(set(recorder.seen("on_save_checkpoint")))
    assert files(tmp_path) == [*(f"epoch={n}-step={5 * (n + 1)}.ckpt" for n in range(3)), "last.ckpt"]


def test_validation_without_an_update_since_the_last_one_saves_nothing(tmp_path):
    class SkipsAfterTheFirst(TinyModule):
        def training_step(self, batch, batch_idx):
            return None if batch_idx else self.loss(batch)

    recorder = Recorder(only=["on_save_checkpoint"], look=lambda trainer, module: trainer.global_step)
    trainer = {"val_check_interval": 1, "max_epochs": 2, "keep_last": False}
    fit(tmp_path, SkipsAfterTheFirst(), num_batches=3, save_top_k=-1, callbacks=[recorder], trainer=trainer)
    assert recorder.seen("on_save_checkpoint") == [1, 2]


def test_validation_in_mid_group_saves_after_the_end_of_the_group(tmp_path):
    recorder = Recorder(
        only=["on_save_checkpoint"],
        look=lambda trainer, module: (trainer.global_step, trainer.progress.total_batches),
    )
    fit(
        tmp_path,
        num_batches=4,
        save_top_k=-1,
        callbacks=[recorder],
        trainer={"accumulate_grad_batches": 2, "val_check_interval": 3, "max_epochs": 1},
    )
    assert recorder.seen("on_save_checkpoint") == [(2, 4)]


def test_schedulers_and_metrics_are_done_when_a_checkpoint_is_saved(tmp_path):
    class Module(Scores):
        def configure_optimizers(self):
            optimizer = torch.optim.SGD(self.parameters(), lr=1.0)
            plateau = ReduceLROnPlateau(optimizer, patience=0)
            return [optimizer], [StepLR(optimizer, 1), {"scheduler": plateau, "monitor": "val/score"}]

    fit(tmp_path, Module([1.0, 1.0, 1.0]), monitor="val/score", save_top_k=-1, filename="{epoch}-{val/score}")
    for epoch in range(3):
        saved = torch.load(tmp_path / f"epoch={epoch}-val-score=1.0.ckpt", weights_only=True)
        step_lr, plateau = saved["lr_schedulers"]
        assert step_lr["last_epoch"] == epoch + 1
        assert plateau["last_epoch"] == epoch + 1


def test_train_metric_of_the_epoch_can_be_monitored(tmp_path):
    class Module(TinyModule):
        def training_step(self, batch, batch_idx):
            self.log("train/score", [2.0, 1.0, 3.0][self.current_epoch], on_step=False, on_epoch=True)
            return self.loss(batch)

    fit(tmp_path, Module(), val=0, monitor="train/score")
    assert files(tmp_path) == ["epoch=1-step=10.ckpt"]


def test_checkpoint_has_the_documented_keys_and_loads_safely(tmp_path):
    fit(tmp_path)
    saved = torch.load(tmp_path / "epoch=2-step=15.ckpt", weights_only=True)
    assert set(saved) >= {
        "state_dict",
        "optimizer_states",
        "lr_schedulers",
        "epoch",
        "global_step",
        "loops",
        "callbacks",
        "hyper_parameters",
        "trainkit",
    }
    assert saved["global_step"] == 15


def test_save_weights_only_leaves_the_optimizer_out(tmp_path):
    fit(tmp_path, save_weights_only=True)
    saved = torch.load(tmp_path / "epoch=2-step=15.ckpt", weights_only=True)
    assert "state_dict" in saved
    assert not saved.get("optimizer_states")


def test_hooks_may_add_to_a_checkpoint_and_get_it_back(tmp_path):
    got = []

    class Adds:
        name = "adds"

        def on_save_checkpoint(self, checkpoint):
            checkpoint["mine"] = {"a": 1}

        def on_load_checkpoint(self, checkpoint):
            got.append(checkpoint["mine"])

    fit(tmp_path, callbacks=[Adds()])
    trainer = quiet_trainer(max_epochs=4, callbacks=[Adds()])
    trainer.fit(TinyModule(), TinyData(5), ckpt_path=tmp_path / "epoch=2-step=15.ckpt")
    assert got == [{"a": 1}]


def test_save_checkpoint_by_hand_inside_a_group_keeps_its_gradients(tmp_path):
    class SaveAfterFirstBatch:
        def on_train_batch_end(self, trainer, batch_idx):
            if batch_idx == 0:
                trainer.save_checkpoint(tmp_path / "mid.ckpt")

    whole, data = TinyModule(), TinyData(3)
    trainer = quiet_trainer(accumulate_grad_batches=3, callbacks=[SaveAfterFirstBatch()])
    trainer.fit(whole, data)

    resumed = TinyModule(seed=9)
    quiet_trainer(accumulate_grad_batches=3).fit(resumed, data, ckpt_path=tmp_path / "mid.ckpt")
    assert_same_weights(resumed, whole)


@pytest.mark.parametrize("stage", ["validate", "test", "predict"])
def test_evaluation_takes_a_checkpoint_by_path_best_and_last(tmp_path, stage):
    trained = Scores([1.0, 3.0, 2.0])
    trainer = quiet_trainer(
        max_epochs=3,
        enable_checkpointing=True,
        default_root_dir=tmp_path,
        callbacks=[ModelCheckpoint(monitor="val/score", save_last=True, save_top_k=-1)],
    )
    trainer.fit(trained, TinyData(2), TinyData(1))
    saved = {path.name: torch.load(path, weights_only=True)["state_dict"] for path in tmp_path.rglob("*.ckpt")}
    best = trainer.checkpoint_callback.best_model_path

    class Module(TinyModule):
        def validation_step(self, batch, batch_idx):
            pass

        test_step = predict_step = validation_step

    for asked, expected in ((best, "epoch=0-step=2.ckpt"), ("best", "epoch=0-step=2.ckpt"), ("last", "last.ckpt")):
        module = Module(seed=9)
        getattr(trainer, stage)(module, TinyData(1), ckpt_path=asked)
        assert_same_state(dict(module.state_dict()), dict(saved[expected]))


def test_weights_of_a_fit_can_be_read_back_into_the_module(tmp_path):
    module = TinyModule(in_features=3, lr=0.05)
    trainer = quiet_trainer()
    trainer.fit(module, TinyData(3, in_features=3))
    trainer.save_checkpoint(tmp_path / "a.ckpt")
    again = TinyModule.load_from_checkpoint(tmp_path / "a.ckpt")
    assert_same_weights(again, module)


def test_a_checkpoint_that_is_saved_after_a_validation_continues_the_fit(tmp_path):
    trainer, module, loader = quiet_trainer(max_epochs=1), TinyModule(), TinyData(2)
    trainer.fit(module, loader)
    trainer.validate(module, loader, verbose=False)
    trainer.save_checkpoint(tmp_path / "a.ckpt")
    resumed = quiet_trainer(max_epochs=2)
    resumed.fit(TinyModule(), loader, ckpt_path=tmp_path / "a.ckpt")
    assert resumed.global_step == 4


@pytest.mark.parametrize("other", ["module", "weights"])
def test_a_checkpoint_of_weights_that_no_fit_left_holds_weights_only(tmp_path, other):
    trainer, module, loader = quiet_trainer(max_epochs=1), TinyModule(), TinyData(2)
    trainer.fit(module, loader)
    trainer.save_checkpoint(tmp_path / "fit.ckpt")
    if other == "module":
        module = TinyModule(seed=1)
        trainer.validate(module, loader, verbose=False)
    else:
        trainer.validate(module, loader, ckpt_path=tmp_path / "fit.ckpt", verbose=False)
    trainer.save_checkpoint(tmp_path / "a.ckpt")
    assert_same_weights(TinyModule.load_from_checkpoint(tmp_path / "a.ckpt"), module)
    with pytest.raises(CheckpointError, match="holds weights only"):
        quiet_trainer(max_epochs=2).fit(TinyModule(), loader, ckpt_path=tmp_path / "a.ckpt")
