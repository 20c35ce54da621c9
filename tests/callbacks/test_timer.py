from __future__ import annotations

import pytest

from trainkit.callbacks import Timer
from trainkit.errors import ConfigError, UnknownNameError
from trainkit.testing import TinyData, TinyModule, quiet_trainer


def test_a_timer_that_is_up_ends_the_fit_after_the_running_batch(capsys):
    trainer = quiet_trainer(max_epochs=3, callbacks=[Timer({"seconds": 0})])
    trainer.fit(TinyModule(), TinyData(4))
    assert trainer.global_step <= 1
    assert "Timer: time is up" in capsys.readouterr().out


def test_it_may_look_at_the_ends_of_epochs_only():
    class Late(Timer):
        def on_fit_start(self):
            pass

    trainer = quiet_trainer(max_epochs=3, callbacks=[Late("00:00:00:00", interval="epoch", verbose=False)])
    trainer.fit(TinyModule(), TinyData(4))
    assert trainer.global_step == 4


def test_it_tells_the_time_of_each_phase():
    timer = Timer("00:01:00:00")
    trainer = quiet_trainer(callbacks=[timer])
    trainer.fit(TinyModule(), TinyData(1), TinyData(1))
    assert 0 < timer.time_elapsed("validate") < timer.time_elapsed() < 3600 - timer.time_remaining() + 1
    assert timer.start_time() < timer.start_time("validate") < timer.end_time("validate") < timer.end_time()
    assert (timer.start_time("test"), timer.time_elapsed("test"), Timer().time_remaining()) == (None, 0.0, None)
    with pytest.raises(UnknownNameError, match="did you mean 'train'"):
        timer.time_elapsed("training")


def test_the_time_of_earlier_sessions_counts():
    timer = Timer({"seconds": 100}, verbose=False)
    timer.load_state_dict({"time_elapsed": 100.0})
    assert timer.time_remaining() == 0.0
    trainer = quiet_trainer(max_epochs=3, callbacks=[timer])
    trainer.fit(TinyModule(), TinyData(4))
    assert trainer.global_step <= 1
    assert timer.state_dict()["time_elapsed"] >= 100


def test_a_run_whose_time_was_up_before_it_trains_no_batch(tmp_path):
    first = Timer(verbose=False)
    trainer = quiet_trainer(callbacks=[first])
    trainer.fit(TinyModule(), TinyData(4))
    trainer.save_checkpoint(tmp_path / "a.ckpt")
    resumed = quiet_trainer(max_epochs=3, callbacks=[Timer({"seconds": 0}, verbose=False)])
    resumed.fit(TinyModule(), TinyData(4), ckpt_path=tmp_path / "a.ckpt")
    assert resumed.global_step == 4


def test_a_state_that_is_loaded_takes_the_place_of_what_was_timed():
    timer = Timer()
    quiet_trainer(callbacks=[timer]).fit(TinyModule(), TinyData(1))
    timer.load_state_dict({"time_elapsed": 100.0})
    assert timer.time_elapsed() == 100.0


@pytest.mark.parametrize("arguments", [{"duration": "an hour"}, {"interval": "batch"}])
def test_arguments_are_checked(arguments):
    with pytest.raises(ConfigError):
        Timer(**arguments)
