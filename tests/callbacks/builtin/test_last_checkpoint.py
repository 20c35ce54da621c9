"""A run keeps its newest state, unasked, and goes on from it until it is over."""

from __future__ import annotations

import os
import warnings

import pytest
import torch

from trainkit import Trainer
from trainkit.callbacks import EarlyStopping, ModelCheckpoint
from trainkit.checkpoint.head import read_head
from trainkit.errors import CheckpointWriteError
from trainkit.testing import Recorder, TinyData, TinyModule, assert_same_weights

pytestmark = pytest.mark.filterwarnings("ignore:nothing is left to train", "ignore:configure_optimizers")


def make(folder, *callbacks, **arguments):
    defaults = {"max_epochs": 3, "logger": False, "num_sanity_val_steps": 0, "default_root_dir": folder}
    return Trainer(
        accelerator="cpu",
        enable_progress_bar=False,
        enable_model_summary=False,
        callbacks=list(callbacks),
        **defaults | arguments,
    )


class Scores(TinyModule):
    """Gets worse from validation to validation, so that the first checkpoint is the best."""

    def validation_step(self, batch, batch_idx):
        self.log("score", float(self.trainer.global_step))


def fit(folder, *callbacks, ckpt_path=None, module=None, **arguments):
    trainer = make(folder, *callbacks, **arguments)
    trainer.fit(module or Scores(), TinyData(2), TinyData(1), ckpt_path=ckpt_path)
    return trainer


def ranked():
    return ModelCheckpoint(monitor="score")


def last(folder):
    return folder / "checkpoints" / "last.ckpt"


def step_of(path):
    return torch.load(path, weights_only=True)["global_step"]


def snapshot(folder):
    return {path: path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file()}


def test_the_newest_state_is_kept_beside_the_best(tmp_path):
    trainer = fit(tmp_path, ranked())
    assert step_of(trainer.checkpoint_callback.best_model_path) == 2
    assert step_of(last(tmp_path)) == 6


SAVING = {
    "default": lambda: [ModelCheckpoint()],
    "best": lambda: [ranked()],
    "beside": lambda: [ModelCheckpoint(), ranked(), ModelCheckpoint(every_n_train_steps=2, save_top_k=-1)],
    "async": lambda: [ModelCheckpoint(async_save=True)],
    "last": lambda: [ModelCheckpoint(save_last=True)],
}


@pytest.mark.parametrize("arguments", [{"logger": None}, {"logger": False}])
@pytest.mark.parametrize("saving", SAVING)
def test_a_run_that_is_over_does_nothing_and_says_so_every_time(tmp_path, saving, arguments):
    fit(tmp_path, *SAVING[saving](), **arguments)
    files = snapshot(tmp_path)
    for _ in range(2):
        recorder = Recorder()
        with pytest.warns(UserWarning, match="nothing is left to train: 3 epochs and 6 steps"):
            resumed = fit(tmp_path, *SAVING[saving](), recorder, ckpt_path="last", **arguments)
        assert resumed.global_step == 6
        assert recorder.count("on_train_start") == recorder.count("on_train_end") == 0
    assert snapshot(tmp_path) == files


def test_a_run_goes_on_from_its_newest_state_with_a_line_that_says_so(tmp_path, capsys):
    whole = fit(tmp_path / "whole", max_epochs=5)
    fit(tmp_path / "run", ranked())
    resumed = fit(tmp_path / "run", ranked(), ckpt_path="last", max_epochs=5)
    assert_same_weights(resumed.module, whole.module)
    assert f"continuing from {last(tmp_path / 'run')} (epoch 2, step 6)" in capsys.readouterr().err
    assert step_of(last(tmp_path / "run")) == 10
    assert not (tmp_path / "run/checkpoints/last-v1.ckpt").exists()


def test_it_costs_no_second_write_where_a_callback_has_written_the_same_state(tmp_path):
    class Looks:
        stage = "persist"

        def on_train_epoch_start(self, trainer):
            if trainer.current_epoch:
                self.same = os.path.samefile(last(tmp_path), trainer.checkpoint_callback.best_model_path)

    looks = Looks()
    fit(tmp_path, ModelCheckpoint(), looks)
    assert looks.same


@pytest.mark.parametrize("async_save", [False, True])
@pytest.mark.parametrize("monitor", [None, "score"])
def test_it_is_the_newest_state_after_every_epoch(tmp_path, async_save, monitor):
    steps = []

    class Looks:
        def on_train_epoch_start(self, trainer):
            if trainer.current_epoch:
                for keeper in (trainer.checkpoint_callback, trainer.last_checkpoint):
                    keeper.finish_write(trainer)
                steps.append((step_of(last(tmp_path)), trainer.global_step))

    fit(tmp_path, ModelCheckpoint(monitor=monitor, async_save=async_save), Looks())
    assert steps == [(2, 2), (4, 4)]
    assert step_of(last(tmp_path)) == 6


def test_it_is_written_after_validations_within_an_epoch(tmp_path):
    steps = []

    class Looks:
        def on_train_batch_start(self, trainer, batch_idx):
            if batch_idx:
                steps.append(step_of(last(tmp_path)))

    fit(tmp_path, ranked(), Looks(), val_check_interval=1, max_epochs=2)
    assert steps == [1, 3]


def test_a_fit_that_saves_nothing_by_itself_ends_with_something_saved(tmp_path):
    never = ModelCheckpoint(save_on_train_epoch_end=False)
    trainer = make(tmp_path, never)
    trainer.fit(TinyModule(), TinyData(2))
    assert (never.best_model_path, step_of(last(tmp_path))) == ("", 6)


def test_a_model_without_an_optimizer_is_saved_and_goes_on(tmp_path):
    class Buffers(TinyModule):
        def __init__(self):
            super().__init__()
            self.register_buffer("seen", torch.zeros(()))

        def configure_optimizers(self):
            return None

        def training_step(self, batch, batch_idx):
            self.seen += 1

    trainer = make(tmp_path, max_steps=3, max_epochs=-1)
    trainer.fit(Buffers(), TinyData(2))
    module = Buffers()
    resumed = make(tmp_path, max_steps=5, max_epochs=-1)
    resumed.fit(module, TinyData(2), ckpt_path="last")
    assert (trainer.global_step, resumed.global_step, module.seen.item()) == (3, 5, 5)


def test_a_run_that_early_stopping_ended_does_not_train_on_until_it_is_given_more_patience(tmp_path):
    def run(patience=2, *extra, **arguments):
        stopping = EarlyStopping("score", patience=patience)
        return fit(tmp_path, stopping, *extra, **{"max_epochs": 9} | arguments)

    assert run().current_epoch == 3
    for arguments in ({}, {"max_epochs": 20}):
        with pytest.warns(UserWarning, match=r"nothing is left.*EarlyStopping.*has ended the run"):
            assert run(ckpt_path="last", **arguments).current_epoch == 3
    assert run(4, ckpt_path="last").current_epoch == 5
    # Without it nobody asks for the end any more.
    assert fit(tmp_path, ckpt_path="last", max_epochs=7).current_epoch == 7


def test_a_wish_to_stop_is_kept_until_it_may_be_honoured(tmp_path):
    class Asks(Scores):
        def on_train_epoch_end(self):
            if self.trainer.current_epoch == 0:
                self.trainer.should_stop = True

    class Dies(Asks):
        def on_train_epoch_start(self):
            if self.trainer.current_epoch == 2:
                raise RuntimeError("killed")

    limits = {"max_epochs": 9, "min_epochs": 4}
    with pytest.raises(RuntimeError):
        fit(tmp_path, module=Dies(), **limits)
    assert fit(tmp_path, module=Asks(), ckpt_path="last", **limits).current_epoch == 4
    # That was the end, for which a limit has to be raised.
    assert fit(tmp_path, ckpt_path="last", **limits).current_epoch == 4
    assert fit(tmp_path, ckpt_path="last", max_epochs=10).current_epoch == 10


def test_the_time_that_was_spent_ends_a_run(tmp_path):
    fit(tmp_path, max_epochs=1)
    with pytest.warns(UserWarning, match="max_time=.* is over. Raise it to train on"):
        assert fit(tmp_path, ckpt_path="last", max_time={"microseconds": 1}, max_epochs=-1).global_step == 2
    assert fit(tmp_path, ckpt_path="last", max_epochs=2).global_step == 4


def test_another_run_in_the_same_folder_leaves_the_file_of_the_first(tmp_path):
    fit(tmp_path)
    fit(tmp_path, max_epochs=1)
    assert (step_of(last(tmp_path)), step_of(tmp_path / "checkpoints/last-v1.ckpt")) == (6, 2)
    assert fit(tmp_path, ckpt_path="last", max_epochs=2).global_step == 4
    assert step_of(tmp_path / "checkpoints/last-v1.ckpt") == 4
    assert len({read_head(path).run for path in tmp_path.rglob("last*.ckpt")}) == 2


def test_a_named_newest_state_is_continued_in_place(tmp_path):
    fit(tmp_path, max_epochs=1)
    fit(tmp_path, ckpt_path=last(tmp_path), max_epochs=2)
    assert [step_of(path) for path in (tmp_path / "checkpoints").glob("last*.ckpt")] == [4]


def test_a_second_fit_of_one_trainer_goes_on_in_the_same_file(tmp_path):
    trainer, module = make(tmp_path, max_epochs=1), TinyModule()
    trainer.fit(module, TinyData(2))
    trainer.max_epochs = 2
    trainer.fit(module, TinyData(2))
    assert [step_of(path) for path in (tmp_path / "checkpoints").glob("last*.ckpt")] == [4]


def test_a_callback_that_saves_its_own_last_shares_the_file(tmp_path):
    trainer = fit(tmp_path, ModelCheckpoint(save_last=True))
    assert trainer.checkpoint_callback.last_model_path == str(last(tmp_path))
    assert len(list((tmp_path / "checkpoints").glob("last*.ckpt"))) == 1


@pytest.mark.parametrize(
    "arguments", [{"keep_last": False}, {"enable_checkpointing": False}, {"fast_dev_run": True}, {"barebones": True}]
)
def test_it_can_be_left_out(tmp_path, arguments):
    if "barebones" in arguments:
        arguments["logger"] = None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        fit(tmp_path, **arguments)
    assert not (last(tmp_path)).exists()


def test_without_it_an_interruption_is_saved_all_the_same(tmp_path):
    class Interrupts:
        def on_train_batch_end(self, trainer):
            if trainer.global_step == 3:
                import signal

                signal.raise_signal(signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        fit(tmp_path, Interrupts(), keep_last=False)
    assert step_of(last(tmp_path)) == 3


def test_an_older_write_that_fails_does_not_keep_an_interruption_from_being_saved(tmp_path, monkeypatch):
    trainer = make(tmp_path, ModelCheckpoint(async_save=True))
    trainer.fit(TinyModule(), TinyData(2))

    def fails(trainer):
        raise CheckpointWriteError("disk")

    monkeypatch.setattr(trainer.checkpoint_callback, "finish_write", fails)
    (last(tmp_path)).unlink()
    with pytest.raises(CheckpointWriteError):
        trainer.last_checkpoint.save(trainer)
    assert step_of(last(tmp_path)) == 6


def test_best_is_known_in_a_new_process(tmp_path):
    best = fit(tmp_path, ranked()).checkpoint_callback.best_model_path
    trainer = make(tmp_path)
    trainer.validate(Scores(), TinyData(1), ckpt_path="best", verbose=False)
    assert trainer.ckpt_path == best


def test_a_ranked_file_of_the_same_name_is_left_alone(tmp_path):
    callback = ModelCheckpoint(monitor="score", filename="last")
    fit(tmp_path, callback)
    assert step_of(callback.best_model_path) == 2
    assert step_of(tmp_path / "checkpoints/last-v1.ckpt") == 6


def test_a_run_that_goes_on_elsewhere_leaves_the_newest_state_of_another_run_there(tmp_path):
    fit(tmp_path, max_epochs=5)
    fit(tmp_path, max_epochs=2, logger=None)
    fit(tmp_path, max_epochs=3, ckpt_path="last")
    assert [step_of(last(tmp_path)), step_of(tmp_path / "checkpoints/last-v1.ckpt")] == [10, 6]


def test_a_run_in_a_hook_of_another_has_a_file_of_its_own(tmp_path):
    class Starts:
        def on_train_epoch_start(self, trainer):
            if trainer.current_epoch == 1:
                fit(tmp_path, ModelCheckpoint(tmp_path / "inner"), max_epochs=1)

    fit(tmp_path, Starts(), ModelCheckpoint(tmp_path / "outer"))
    assert sorted(step_of(path) for path in (tmp_path / "checkpoints").glob("last*.ckpt")) == [2, 6]


def test_time_that_was_up_in_the_last_save_has_ended_the_run(tmp_path):
    class Slow(Scores):
        """Saving takes all of the time."""

        def on_save_checkpoint(self, checkpoint):
            self.trainer.progress._counted_s += 100

    limits = {"max_time": {"seconds": 90}, "max_epochs": -1}
    assert fit(tmp_path, module=Slow(), **limits).current_epoch == 1
    with pytest.warns(UserWarning, match="max_time"):
        assert fit(tmp_path, module=Slow(), ckpt_path="last", **limits).current_epoch == 1


@pytest.mark.filterwarnings("ignore:epoch . has made no update")
def test_a_run_whose_last_epoch_made_no_update_is_over_all_the_same(tmp_path):
    class Rests(Scores):
        def training_step(self, batch, batch_idx):
            return None if self.trainer.current_epoch else super().training_step(batch, batch_idx)

    fit(tmp_path, module=Rests())
    files = snapshot(tmp_path)
    with pytest.warns(UserWarning, match="nothing is left to train: 3 epochs and 2 steps"):
        fit(tmp_path, module=Rests(), ckpt_path="last")
    assert snapshot(tmp_path) == files


@pytest.mark.parametrize("bar", [False, True])
def test_a_run_writes_one_file_for_each_epoch(tmp_path, bar):
    recorder = Recorder(["on_save_checkpoint"], look=lambda trainer, module: trainer.global_step)
    trainer = Trainer(
        accelerator="cpu", max_epochs=3, default_root_dir=tmp_path, enable_progress_bar=bar, callbacks=[recorder]
    )
    trainer.fit(TinyModule(), TinyData(2))
    assert recorder.seen("on_save_checkpoint") == [2, 4, 6]


@pytest.mark.parametrize("place", ["root", "root/runs"])
def test_a_root_that_is_a_file_is_an_error_before_training_where_nothing_else_is_kept(tmp_path, place):
    (tmp_path / "root").write_text("")
    trainer = make(tmp_path / place, ModelCheckpoint(save_top_k=0))
    with pytest.raises(CheckpointWriteError, match="root is no folder"):
        trainer.fit(Scores(), TinyData(2), TinyData(1))
    assert trainer.global_step == 0


def test_a_root_that_is_a_file_is_told_when_training_begins_where_something_else_is_kept(tmp_path):
    (tmp_path / "root").write_text("")

    class Ends(TinyModule):
        def on_train_start(self):
            raise RuntimeError("training has begun")

    with (
        pytest.warns(UserWarning, match=r"root is no folder(.|\n)*newest state of the run is not kept"),
        pytest.raises(RuntimeError, match="has begun"),
    ):
        fit(tmp_path / "root", ModelCheckpoint(tmp_path / "elsewhere"), module=Ends())
