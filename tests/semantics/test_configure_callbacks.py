"""Callbacks that a module brings along, and callbacks that cannot be told apart."""

from __future__ import annotations

from trainkit.callbacks import Callback, EarlyStopping
from trainkit.testing import TinyData, TinyModule, quiet_trainer


class Counting(Callback):
    """Counts the epochs it saw."""

    def __init__(self, label):
        self.label = label
        self.epochs = 0

    def on_train_epoch_end(self):
        self.epochs += 1

    def state_dict(self):
        return {"epochs": self.epochs}

    def load_state_dict(self, state):
        self.epochs = state["epochs"]


class OtherCounting(Counting):
    """The same, of another type."""


def module_with(*callbacks):
    class Module(TinyModule):
        def configure_callbacks(self):
            return list(callbacks)

    return Module()


def test_callbacks_of_the_module_are_added():
    own = Counting("own")
    quiet_trainer().fit(module_with(own), TinyData(1))
    assert own.epochs == 1


def test_callbacks_of_the_module_replace_those_of_the_same_type_and_leave_others():
    own, given, other = Counting("own"), Counting("given"), OtherCounting("other")
    trainer = quiet_trainer(callbacks=[given, other])
    trainer.fit(module_with(own), TinyData(1))
    assert (own.epochs, given.epochs, other.epochs) == (1, 0, 1)


def test_one_callback_may_be_returned_without_a_list():
    own = Counting("own")

    class Module(TinyModule):
        def configure_callbacks(self):
            return own

    quiet_trainer().fit(Module(), TinyData(1))
    assert own.epochs == 1


def test_early_stopping_of_the_module_replaces_the_trainers():
    trainer = quiet_trainer(max_epochs=2, callbacks=[EarlyStopping("never/logged")])
    trainer.fit(module_with(EarlyStopping("val/loss", patience=5)), TinyData(2), TinyData(1))
    assert trainer.current_epoch == 2


def test_callbacks_without_state_may_be_there_twice():
    class Stateless:
        def on_train_end(self):
            ended.append(self)

    ended = []
    quiet_trainer(callbacks=[Stateless(), Stateless()]).fit(TinyModule(), TinyData(1))
    assert len(ended) == 2


def test_two_of_a_kind_that_watch_different_metrics_go_together():
    trainer = quiet_trainer(max_epochs=2, callbacks=[EarlyStopping("val/loss"), EarlyStopping("train/loss")])
    trainer.fit(TinyModule(), TinyData(2), TinyData(1))
    assert trainer.current_epoch == 2
