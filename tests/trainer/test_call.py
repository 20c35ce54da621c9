from __future__ import annotations

import os
import signal
import warnings

import pytest

from trainkit.callbacks import EarlyStopping, ModelCheckpoint
from trainkit.errors import DataError, NotAttachedError
from trainkit.loops.run import Run
from trainkit.testing import TinyData, TinyModule, quiet_trainer
from trainkit.types import Stage


def test_an_evaluation_has_nothing_of_training():
    trainer = quiet_trainer()
    trainer.validate(TinyModule(), TinyData(2))
    assert type(trainer.run) is Run
    assert trainer.optimizers == trainer.lr_scheduler_configs == []
    with pytest.raises(NotAttachedError, match=r"validate\(\) does not train"):
        _ = trainer.fit_run


def test_there_is_no_run_before_it_is_built():
    class TooEarly:
        def setup(self, trainer):
            with pytest.raises(NotAttachedError, match="is being prepared"):
                _ = trainer.run

    trainer = quiet_trainer(callbacks=[TooEarly()])
    with pytest.raises(NotAttachedError, match="nothing has run yet"):
        _ = trainer.run
    trainer.fit(TinyModule(), TinyData(1))


def test_a_call_that_never_began_leaves_what_the_last_one_made(tmp_path):
    trainer = quiet_trainer(max_epochs=1)
    module = TinyModule()
    trainer.fit(module, TinyData(3))
    with pytest.raises(DataError, match="test_dataloader"):
        trainer.test(module)
    assert trainer.state.status == "interrupted"
    assert trainer.state.fn is Stage.TEST
    assert len(trainer.optimizers) == 1
    trainer.save_checkpoint(tmp_path / "kept.ckpt")
    resumed = quiet_trainer(max_epochs=2)
    resumed.fit(TinyModule(), TinyData(3), ckpt_path=tmp_path / "kept.ckpt")
    assert resumed.global_step == 6


def test_after_an_evaluation_the_fit_is_what_is_saved(tmp_path):
    trainer, module = quiet_trainer(max_epochs=1), TinyModule()
    trainer.fit(module, TinyData(3))
    trainer.validate(module, TinyData(2))
    trainer.save_checkpoint(tmp_path / "whole.ckpt")
    trainer.validate(TinyModule(), TinyData(2))
    trainer.save_checkpoint(tmp_path / "weights.ckpt")
    resumed = quiet_trainer(max_epochs=2)
    resumed.fit(TinyModule(), TinyData(3), ckpt_path=tmp_path / "whole.ckpt")
    assert resumed.global_step == 6
    with pytest.raises(Exception, match="weights only"):
        quiet_trainer(max_epochs=2).fit(TinyModule(), TinyData(3), ckpt_path=tmp_path / "weights.ckpt")


def test_a_signal_saves_in_the_folder_of_the_run_wherever_callbacks_save(tmp_path):
    class Module(TinyModule):
        def configure_callbacks(self):
            return [ModelCheckpoint(tmp_path / "own")]

        def on_train_batch_end(self, batch_idx):
            if batch_idx == 1:
                os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        quiet_trainer(enable_checkpointing=True, default_root_dir=tmp_path).fit(Module(), TinyData(4))
    assert [path.name for path in tmp_path.rglob("*.ckpt")] == ["last.ckpt"]
    assert not (tmp_path / "own").exists()


def test_each_run_tells_its_warnings_also_the_second_of_one_trainer():
    class Lost(TinyModule):
        def training_step(self, batch, batch_idx):
            self.log("loss", float("nan"), on_epoch=True)

        def validation_step(self, batch, batch_idx):
            pass

    stopping = EarlyStopping("never/logged", strict=False)
    again = quiet_trainer(max_epochs=1, callbacks=[stopping])
    with warnings.catch_warnings():
        warnings.simplefilter("default")
        told = []
        warnings.showwarning = lambda message, *_: told.append(str(message))
        for trainer in (quiet_trainer(max_epochs=1), again, again):
            told.clear()
            trainer.max_epochs = trainer.current_epoch + 2
            trainer.fit(Lost(), TinyData(2), TinyData(1))
            assert sum("has made no update" in each for each in told) == 1
            assert sum("loss_epoch is nan" in each for each in told) == 1
            assert sum("never/logged" in each for each in told) == (trainer is again)
