"""Which state a Trainer saves: that to which its weights belong."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest
import torch

import trainkit
from trainkit.callbacks import ModelCheckpoint
from trainkit.checkpoint import state
from trainkit.checkpoint.background import BackgroundJob
from trainkit.errors import CheckpointError, CheckpointWriteError, DataError, ModuleError, NotAttachedError
from trainkit.storage.files import read_checkpoint, write_checkpoint
from trainkit.testing import TinyData, TinyModule, quiet_trainer


class FailsToBePrepared(TinyModule):
    def configure_model(self):
        raise ValueError("while it is prepared")


def test_nothing_can_be_saved_before_the_first_call(tmp_path):
    with pytest.raises(NotAttachedError, match="no module to save"):
        quiet_trainer().save_checkpoint(tmp_path / "file.ckpt")


@pytest.mark.parametrize("weights_only", [True, False])
def test_what_is_written_is_what_is_dumped(weights_only):
    written = []
    trainer = quiet_trainer()
    trainer.fit(TinyModule(), TinyData(2))
    trainer.save_checkpoint(
        "file.ckpt", weights_only, write=lambda checkpoint, path: written.append((checkpoint, path))
    )
    ((checkpoint, path),) = written
    assert path == "file.ckpt"
    assert checkpoint.keys() == trainer.dump_checkpoint(weights_only).keys()
    assert ("optimizer_states" in checkpoint) is not weights_only
    assert state.LIGHTNING_VERSION in checkpoint


def test_plugins_may_add_to_a_checkpoint_and_go_around_its_writing():
    class Adds:
        paths = ()

        def on_save_checkpoint(self, checkpoint):
            checkpoint["added"] = 1

        def around_save_checkpoint(self, path):
            self.paths = (*self.paths, path)
            yield

    plugin, written = Adds(), []
    trainer = quiet_trainer(callbacks=[plugin])
    trainer.fit(TinyModule(), TinyData(1))
    trainer.save_checkpoint(Path("some") / "file.ckpt", write=lambda checkpoint, path: written.append(checkpoint))
    assert plugin.paths == (str(Path("some") / "file.ckpt"),)
    assert written[0]["added"] == 1


def test_weights_that_a_call_has_loaded_before_it_failed_are_not_saved_as_those_of_the_fit(tmp_path):
    class NoTest(TinyModule):
        test_step = trainkit.TrainModule.test_step

    other = quiet_trainer()
    other.fit(TinyModule(seed=5), TinyData(2))
    other.save_checkpoint(tmp_path / "other.ckpt")
    trainer, module = quiet_trainer(), NoTest()
    trainer.fit(module, TinyData(3))
    with pytest.raises(ModuleError, match="has no test_step"):
        trainer.test(module, TinyData(1), ckpt_path=tmp_path / "other.ckpt")
    assert torch.equal(module.layer.weight, other.module.layer.weight), "they are loaded by then"
    assert "optimizer_states" not in trainer.dump_checkpoint()


class FailsToWrite(ModelCheckpoint):
    """Says once, when it is waited for, that what it wrote in the background has failed."""

    error = ""

    def finish_write(self, trainer):
        error, self.error = self.error, ""
        if error:
            raise CheckpointWriteError(error)


def fitted_with_failed_writes(folder):
    callbacks = [FailsToWrite(folder / name, save_top_k=0) for name in ("a", "b")]
    trainer = quiet_trainer(callbacks=callbacks, enable_checkpointing=True, default_root_dir=folder)
    trainer.fit(TinyModule(), TinyData(1))
    for callback, error in zip(callbacks, ("the first", "the second"), strict=True):
        callback.error = error
    return trainer


def test_what_is_saved_by_hand_is_written_where_a_write_in_the_background_failed(tmp_path):
    trainer = fitted_with_failed_writes(tmp_path)
    with pytest.raises(CheckpointWriteError, match="the second") as caught:
        trainer.save_checkpoint(tmp_path / "mine.ckpt")
    assert caught.value.__notes__ == ["before that: the first"]
    assert read_checkpoint(tmp_path / "mine.ckpt")["global_step"] == trainer.global_step


def test_where_it_cannot_be_written_either_both_are_told(tmp_path):
    trainer = fitted_with_failed_writes(tmp_path)
    (tmp_path / "file").touch()
    with pytest.raises(CheckpointWriteError, match="could not write .*mine.ckpt") as caught:
        trainer.save_checkpoint(tmp_path / "file" / "mine.ckpt")
    assert caught.value.__notes__ == ["before that: the first", "before that: the second"]


def test_who_writes_by_itself_waits_for_no_other(tmp_path):
    trainer = fitted_with_failed_writes(tmp_path)
    trainer.save_checkpoint(tmp_path / "mine.ckpt", write=lambda checkpoint, path: None)
    assert [callback.error for callback in trainer.checkpoint_callbacks] == ["the first", "the second"]


def test_while_a_later_call_is_prepared_the_last_fit_can_be_saved():
    class Saves:
        saved = ()

        def on_exception(self, trainer):
            self.saved = (*self.saved, trainer.dump_checkpoint()["global_step"])

    plugin = Saves()
    trainer = quiet_trainer(callbacks=[plugin])
    trainer.fit(TinyModule(), TinyData(2))
    with pytest.raises(ValueError, match="while it is prepared"):
        trainer.fit(FailsToBePrepared(), TinyData(2))
    assert plugin.saved == (2,)


def test_what_a_module_adds_to_a_checkpoint_is_added_by_the_module_that_is_saved():
    class Adds(TinyModule):
        def on_save_checkpoint(self, checkpoint):
            checkpoint["added by"] = self.lr

    trainer = quiet_trainer()
    trainer.fit(Adds(lr=0.1), TinyData(1))
    with pytest.raises(DataError):
        trainer.test(Adds(lr=0.2))
    assert trainer.module.lr == 0.1
    assert trainer.dump_checkpoint()["added by"] == 0.1


@pytest.mark.parametrize("spoil", [lambda c: c.pop("loops"), lambda c: c.update(epoch=torch.zeros(2))])
def test_who_may_have_spoilt_a_checkpoint_is_named(spoil):
    class Spoils:
        def on_save_checkpoint(self, checkpoint):
            spoil(checkpoint)

    trainer = quiet_trainer(callbacks=[Spoils()], max_epochs=1)
    trainer.fit(TinyModule(), TinyData(1))
    with pytest.raises(CheckpointError, match=r"(loops|epoch).*on_save_checkpoint is defined by Spoils\."):
        trainer.dump_checkpoint()


def test_in_the_background_it_is_the_state_of_that_moment_that_is_written(tmp_path):
    trainer, module, job = quiet_trainer(), TinyModule(), BackgroundJob()
    trainer.fit(module, TinyData(1))
    before = module.layer.weight.detach().clone()
    written = threading.Event()

    def write(checkpoint, path):
        written.wait(10)
        write_checkpoint(checkpoint, path)

    trainer.save_checkpoint(tmp_path / "a.ckpt", write=write, background=job)
    module.layer.weight.data.add_(1)
    written.set()
    job.finish()
    assert torch.equal(read_checkpoint(tmp_path / "a.ckpt")["state_dict"]["layer.weight"], before)


def test_what_cannot_be_stored_is_an_error_before_the_thread_begins(tmp_path):
    class Adds:
        def on_save_checkpoint(self, checkpoint):
            checkpoint["added"] = object()

    trainer, job = quiet_trainer(callbacks=[Adds()]), BackgroundJob()
    trainer.fit(TinyModule(), TinyData(1))
    with pytest.raises(CheckpointError, match="added"):
        trainer.save_checkpoint(tmp_path / "a.ckpt", background=job)
    job.finish()
    assert [*tmp_path.iterdir()] == []
