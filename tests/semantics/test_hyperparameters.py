"""Rebuilding a module from its checkpoint."""

from __future__ import annotations

import pytest
import torch

import trainkit
from trainkit.errors import TrainkitError
from trainkit.testing import TinyData, TinyModule, assert_same_weights, quiet_trainer


class Sized(trainkit.TrainModule):
    """Its size is a hyperparameter without a default."""

    def __init__(self, width, *, scale=1.0, head=None):
        super().__init__()
        self.save_hyperparameters(ignore=["head"])
        self.layer = torch.nn.Linear(4, width)
        self.head = head

    def training_step(self, batch, batch_idx):
        return self.layer(batch[0]).sum() * self.hparams.scale

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.01)


@pytest.fixture
def saved(tmp_path):
    module = Sized(3, scale=0.5)
    trainer = quiet_trainer()
    trainer.fit(module, TinyData(2))
    trainer.save_checkpoint(tmp_path / "a.ckpt")
    return module, tmp_path / "a.ckpt"


def test_module_is_built_from_saved_hyperparameters_with_its_weights(saved):
    module, path = saved
    again = Sized.load_from_checkpoint(path)
    assert dict(again.hparams) == {"width": 3, "scale": 0.5}
    assert_same_weights(again, module)


def test_overrides_come_first(saved):
    _, path = saved
    again = Sized.load_from_checkpoint(path, scale=2.0, head="head")
    assert again.hparams.scale == 2.0
    assert again.hparams.width == 3
    assert again.head == "head"


def test_strict_false_takes_what_fits(saved):
    class Larger(Sized):
        def __init__(self, width, *, scale=1.0):
            super().__init__(width, scale=scale)
            self.extra = torch.nn.Linear(1, 1)

    module, path = saved
    with pytest.raises(TrainkitError, match="extra"):
        Larger.load_from_checkpoint(path)
    again = Larger.load_from_checkpoint(path, strict=False)
    assert torch.equal(again.layer.weight, module.layer.weight)


def test_missing_hyperparameter_is_named(tmp_path):
    class Unsaved(TinyModule):
        def __init__(self, depth):
            super(TinyModule, self).__init__()
            self.layer = torch.nn.Linear(4, 2)
            self.lr = 0.1

    trainer = quiet_trainer()
    trainer.fit(Unsaved(2), TinyData(1))
    trainer.save_checkpoint(tmp_path / "a.ckpt")
    with pytest.raises(TrainkitError, match="depth"):
        Unsaved.load_from_checkpoint(tmp_path / "a.ckpt")
    assert_same_weights(Unsaved.load_from_checkpoint(tmp_path / "a.ckpt", depth=2), trainer_module(trainer))


def trainer_module(trainer):
    """The module of the last call."""
    return trainer.module if hasattr(trainer, "module") else trainer.lightning_module


def test_what_cannot_be_stored_is_named_once_when_the_fit_starts(tmp_path):
    trainer = quiet_trainer(default_root_dir=tmp_path, enable_checkpointing=True, max_epochs=3)

    class Judged(Sized):
        def __init__(self, width, criterion=None, folder="."):
            super().__init__(width)
            self.save_hyperparameters()

    with pytest.warns(UserWarning) as caught:
        trainer.fit(Judged(3, torch.nn.MSELoss(), tmp_path), TinyData(1))

    (warning,) = caught
    assert "cannot hold these hyperparameters of Judged" in str(warning.message)
    assert "criterion. Judged.load_from_checkpoint(path, criterion=...)" in str(warning.message)
    with pytest.raises(TrainkitError, match="criterion"):
        Judged.load_from_checkpoint(trainer.checkpoint_callback.best_model_path)
    again = Judged.load_from_checkpoint(trainer.checkpoint_callback.best_model_path, criterion=None)
    assert again.hparams.folder == tmp_path
