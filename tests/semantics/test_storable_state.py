"""What a checkpoint could not hold is found when a fit starts, not at its first save."""

from __future__ import annotations

import datetime

import numpy as np
import pytest
import torch

from trainkit.callbacks import Callback
from trainkit.data import DataModule
from trainkit.errors import CheckpointError
from trainkit.testing import Recorder, TinyData, TinyModule, quiet_trainer


class Dated(Callback):
    """A callback whose memory cannot be stored."""

    def state_dict(self):
        return {"since": datetime.date(2026, 1, 1)}

    def load_state_dict(self, state):
        pass


class ExtraState(TinyModule):
    def get_extra_state(self):
        return {"seen": np.float32(1.0)}

    def set_extra_state(self, state):
        pass


class Scheduled(TinyModule):
    def configure_optimizers(self):
        optimizer = torch.optim.SGD(self.parameters(), lr=0.1)
        scheduler = torch.optim.lr_scheduler.StepLR(optimizer, 1)
        scheduler.until = datetime.date(2026, 1, 1)
        return [optimizer], [scheduler]


class Data(DataModule):
    def train_dataloader(self):
        return TinyData(1)

    def state_dict(self):
        return {"order": np.arange(3)}


def run(tmp_path, module=None, data=None, callbacks=(), **arguments):
    recorder = Recorder(["on_fit_start"])
    trainer = quiet_trainer(
        **({"default_root_dir": tmp_path, "enable_checkpointing": True} | arguments), callbacks=[recorder, *callbacks]
    )
    trainer.fit(module or TinyModule(), data or TinyData(1))
    return recorder


@pytest.mark.parametrize(
    ("arguments", "place"),
    [
        ({"callbacks": [Dated()]}, "callbacks.Dated.since: datetime.date"),
        ({"module": ExtraState()}, "state_dict._extra_state.seen: numpy.float32"),
        ({"module": Scheduled()}, r"lr_schedulers\[0\].until: datetime.date"),
        ({"data": Data()}, "datamodule.order: numpy.ndarray"),
    ],
)
def test_it_is_an_error_before_anything_is_trained(tmp_path, arguments, place):
    with pytest.raises(CheckpointError, match=f"cannot hold\n    {place}"):
        run(tmp_path, **arguments)


def test_without_checkpoints_it_is_none(tmp_path):
    assert run(tmp_path, callbacks=[Dated()], enable_checkpointing=False).names == ["on_fit_start"]
    assert run(tmp_path, callbacks=[Dated()], fast_dev_run=True).names == ["on_fit_start"]


def test_looking_draws_no_random_numbers_and_calls_no_hook(tmp_path):
    states = []

    class Look(Callback):
        def on_fit_start(self):
            states.append(torch.get_rng_state())

    recorder = Recorder(["on_save_checkpoint"])
    for checkpoints in (False, True):
        torch.manual_seed(0)
        run(tmp_path, callbacks=[Look(), recorder], enable_checkpointing=checkpoints, max_epochs=0)
    assert torch.equal(*states)
    assert recorder.names == []
