from __future__ import annotations

import signal

import pytest

from trainkit.callbacks import EarlyStopping, Timer
from trainkit.callbacks.builtin.why_ended import why_ended, why_interrupted
from trainkit.testing import TinyData, TinyModule, quiet_trainer


class Constant(TinyModule):
    def validation_step(self, batch, batch_idx):
        self.log("score", 0.5)


class AtStepSix:
    """Does something behind an update."""

    def __init__(self, do):
        self.do = do

    def on_train_batch_end(self, trainer):
        if trainer.global_step == 6:
            self.do(trainer)


class Stops:
    def on_validation_end(self, trainer):
        trainer.should_stop = True


def ending(*callbacks, **arguments):
    trainer = quiet_trainer(**{"max_epochs": 3, "callbacks": list(callbacks), **arguments})
    try:
        trainer.fit(Constant(), TinyData(4), TinyData(1))
    except (RuntimeError, KeyboardInterrupt, SystemExit) as error:
        return why_interrupted(trainer, error)
    return why_ended(trainer)


def test_a_limit():
    assert ending()[:2] == ("max_epochs=3 is reached", "a larger max_epochs")
    assert ending(max_steps=6)[:2] == ("max_steps=6 is reached", "a larger max_steps")
    assert ending(max_epochs=-1, max_time={"milliseconds": 20})[1] == "a longer max_time"


def test_early_stopping_tells_the_value():
    reason, to_go_on, status = ending(EarlyStopping("score", patience=1), max_epochs=9)
    assert reason == "EarlyStopping: score = 0.5 is no improvement, 1 in a row; the best was 0.5"
    assert (to_go_on, status) == ("other arguments of EarlyStopping", "stopped")


def test_a_limit_that_is_reached_comes_before_a_wish_to_stop():
    assert ending(EarlyStopping("score", patience=1), max_epochs=2).reason == "max_epochs=2 is reached"


def test_a_plugin_that_has_asked_for_it_is_named():
    reason, to_go_on, status = ending(Stops())
    assert reason == "trainer.should_stop was set in Stops.on_validation_end"
    assert (to_go_on, status) == ("a larger max_epochs or max_steps", "stopped")
    timer = Timer(duration={"milliseconds": 20}, verbose=False)
    assert ending(timer, max_epochs=-1).reason == "trainer.should_stop was set in Timer"


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM"])
def test_a_signal_is_named(name):
    number = getattr(signal, name)
    assert ending(AtStepSix(lambda trainer: signal.raise_signal(number))) == (
        f"interrupted by {name}",
        "",
        "interrupted",
    )


def test_an_exit_of_the_users_code_is_no_signal():
    def leave(trainer):
        raise SystemExit(3)

    assert ending(AtStepSix(leave)).reason == "interrupted by SystemExit"


def test_of_an_error_the_first_line_is_told():
    def fail(trainer):
        raise RuntimeError("no more\nat all")

    assert ending(AtStepSix(fail)) == ("failed with RuntimeError: no more", "", "failed")


def test_a_fast_dev_run():
    assert ending(fast_dev_run=True) == ("all was tried that fast_dev_run asks for", "", "finished")
