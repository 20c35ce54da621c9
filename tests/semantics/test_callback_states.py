"""Any number of callbacks of one class go on with their own states, whatever their order is when the run goes on."""

from __future__ import annotations

import copy
import warnings

import pytest
import torch

from trainkit.callbacks import (
    Callback,
    EarlyStopping,
    EMAWeightAveraging,
    ModelCheckpoint,
    Timer,
    WeightAveraging,
)
from trainkit.storage.files import read_checkpoint
from trainkit.testing import TinyData, TinyModule, assert_same_state, quiet_trainer


class Counts(Callback):
    """Counts batches by a step of its own; the class has no state key of its own."""

    def __init__(self, step):
        self._step, self.count = step, 0

    def on_train_batch_end(self):
        self.count += self._step

    def state_dict(self):
        return {"count": self.count}

    def load_state_dict(self, state):
        self.count = state["count"]


class Plain:
    """No subclass of Callback."""

    def __init__(self, step):
        self.step, self.count = step, 0

    on_train_batch_end, state_dict, load_state_dict = (
        Counts.on_train_batch_end,
        Counts.state_dict,
        Counts.load_state_dict,
    )

    @property
    def _step(self):
        return self.step


MAKE = {
    "EarlyStopping": lambda folder: [EarlyStopping("val/loss", patience=n, min_delta=n) for n in (3, 2)],
    "ModelCheckpoint by folder": lambda folder: [ModelCheckpoint(folder / name) for name in "ab"],
    "ModelCheckpoint by name": lambda folder: [ModelCheckpoint(filename=f"{name}" + "{step}") for name in "ab"],
    "ModelCheckpoint by number": lambda folder: [
        ModelCheckpoint(folder, monitor="val/loss", save_top_k=k, filename=f"{k}" + "{step}") for k in (1, 2)
    ],
    "EMAWeightAveraging": lambda folder: [EMAWeightAveraging(decay=decay) for decay in (0.5, 0.9)],
    "averages": lambda folder: [WeightAveraging(use_buffers=use) for use in (True, False)],
    "Timer": lambda folder: [Timer(interval=interval) for interval in ("step", "epoch")],
    "of a user": lambda folder: [Counts(1), Counts(10), Counts(100)],
    "equal ones": lambda folder: [Counts(1), Counts(1)],
}


NOT_COMPARED = ("time_elapsed", "dirpath")
"""A clock, and what is chosen anew for each run."""


def states(callbacks):
    kept = [callback.state_dict() for callback in callbacks]
    return [copy.deepcopy({key: value for key, value in each.items() if key not in NOT_COMPARED}) for each in kept]


class Keeps(Callback):
    stage = "persist"

    def __init__(self, path):
        self.path = path

    def on_train_end(self, trainer):
        trainer.save_checkpoint(self.path)


class Restored(Callback):
    """Notes the states that callbacks have when a fit begins, and ends it."""

    def __init__(self, callbacks):
        self._callbacks = callbacks

    def on_train_start(self, trainer):
        self.states = states(self._callbacks)


def trainer(callbacks, root, **arguments):
    return quiet_trainer(
        callbacks=callbacks,
        default_root_dir=root,
        enable_checkpointing=any(isinstance(callback, ModelCheckpoint) for callback in callbacks),
        **arguments,
    )


@pytest.mark.parametrize("turned", [False, True])
@pytest.mark.parametrize("kind", MAKE)
def test_each_goes_on_with_its_own(kind, turned, tmp_path):
    first, path = MAKE[kind](tmp_path), tmp_path / "kept.ckpt"
    trainer([*first, Keeps(path)], tmp_path, max_epochs=1).fit(TinyModule(), TinyData(2), TinyData(1))
    again = MAKE[kind](tmp_path)
    restored = Restored(again)
    order = again[::-1] if turned else again
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*other checkpoints|.*not empty")
        trainer([*order, restored], tmp_path, max_epochs=2).fit(TinyModule(), TinyData(2), TinyData(1), ckpt_path=path)
    saved = read_checkpoint(path)["callbacks"]
    assert len({key for key in saved if key.startswith(type(first[0]).__qualname__)}) == len(first)
    expected = [saved[key] for key in saved if key.startswith(type(first[0]).__qualname__)]
    for one, other in zip(restored.states, expected, strict=True):
        assert_same_state(one, {key: other[key] for key in other if key not in NOT_COMPARED}, where=kind)


def test_those_that_are_no_callbacks_go_by_order(tmp_path):
    path = tmp_path / "kept.ckpt"
    trainer([Plain(1), Plain(10), Keeps(path)], tmp_path).fit(TinyModule(), TinyData(2))
    again = [Plain(1), Plain(10)]
    trainer(again, tmp_path, max_epochs=2).fit(TinyModule(), TinyData(2), ckpt_path=path)
    assert [plugin.count for plugin in again] == [4, 40]


def test_a_new_patience_gets_the_state_of_the_old(tmp_path):
    path = tmp_path / "kept.ckpt"
    stops = [EarlyStopping("val/loss", patience=3), EarlyStopping("val/loss", patience=5)]
    trainer([*stops, Keeps(path)], tmp_path).fit(TinyModule(), TinyData(2), TinyData(1))
    again = [EarlyStopping("val/loss", patience=5), EarlyStopping("val/loss", patience=4)]
    trainer(again, tmp_path, max_epochs=2).fit(TinyModule(), TinyData(2), TinyData(1), ckpt_path=path)
    assert all(torch.isfinite(stop.best_score) for stop in again)


def test_a_state_that_cannot_be_brought_back_is_saved_and_told(tmp_path):
    class OnlyGives(Callback):
        def state_dict(self):
            return {"n": 1}

    path = tmp_path / "kept.ckpt"
    trainer([OnlyGives(), Keeps(path)], tmp_path).fit(TinyModule(), TinyData(2))
    assert {"n": 1} in read_checkpoint(path)["callbacks"].values()
    with pytest.warns(UserWarning, match="OnlyGives has a state_dict and no load_state_dict") as caught:
        trainer([OnlyGives()], tmp_path, max_epochs=2).fit(TinyModule(), TinyData(2), ckpt_path=path)
    assert len(caught) == 1
