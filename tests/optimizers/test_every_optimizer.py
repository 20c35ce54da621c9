"""Each optimizer trains as in the loop by hand, goes on in the middle of an epoch, and is saved and loaded."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn.functional import mse_loss

import trainkit
from tests.optimizers.makers import makers
from trainkit.callbacks import Callback
from trainkit.storage.files import read_checkpoint
from trainkit.testing import assert_same_state, assert_same_weights, quiet_trainer

MAKERS = dict(makers())
EPOCHS, BATCHES, STOP = 2, 6, 8
ARGUMENTS = {"max_epochs": EPOCHS, "num_sanity_val_steps": 0}


class Module(trainkit.TrainModule):
    def __init__(self, name):
        super().__init__()
        self.name = name
        with torch.random.fork_rng():
            torch.manual_seed(1)
            self.network = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 2))

    def loss(self, batch):
        return mse_loss(self.network(batch[0]), batch[1])

    def training_step(self, batch, batch_idx):
        return self.loss(batch)

    def validation_step(self, batch, batch_idx):
        self.log("val/loss", self.loss(batch))

    def configure_optimizers(self):
        return MAKERS[self.name](self)


def data():
    generator = torch.Generator().manual_seed(0)
    return [(torch.randn(5, 4, generator=generator), torch.randn(5, 2, generator=generator)) for _ in range(BATCHES)]


def by_hand(name):
    module = Module(name)
    optimizer = module.configure_optimizers()
    has_modes = hasattr(optimizer, "train")
    for _ in range(EPOCHS):
        if has_modes:
            optimizer.train()
        for batch in data():

            def closure(batch=batch):
                optimizer.zero_grad()
                loss = module.loss(batch)
                loss.backward()
                return loss

            optimizer.step(closure)
        if has_modes:
            optimizer.eval()
    return module


class Save(Callback):
    """Saves after the update number `STOP`, in the middle of the second epoch."""

    def __init__(self, path):
        self.path = path

    def on_train_batch_end(self, trainer):
        if trainer.global_step == STOP:
            trainer.save_checkpoint(self.path)


def fit(name, ckpt_path=None, seed=0, **arguments):
    torch.manual_seed(seed)  # some draw in their steps
    module, trainer = Module(name), quiet_trainer(**ARGUMENTS, **arguments)
    trainer.fit(module, data(), data(), ckpt_path=ckpt_path)
    return module, trainer


@pytest.mark.filterwarnings("ignore")  # of the packages
@pytest.mark.parametrize("name", MAKERS)
def test_it_trains_goes_on_and_is_loaded_as_by_hand(name, tmp_path):
    middle, end, again = (tmp_path / f"{each}.ckpt" for each in ("middle", "end", "again"))
    whole, trainer = fit(name, callbacks=[Save(middle)])
    trainer.save_checkpoint(end)
    torch.manual_seed(0)
    assert_same_weights(whole, by_hand(name))

    assert_same_weights(Module.load_from_checkpoint(end, name=name), whole)

    resumed, trainer = fit(name, middle, seed=1)
    trainer.save_checkpoint(again)
    assert_same_weights(resumed, whole)
    assert_same_state(read_checkpoint(again)["optimizer_states"], read_checkpoint(end)["optimizer_states"])


def test_many_are_tried():
    packages = {name.partition(".")[0] for name in MAKERS}
    assert packages == {"torch", "schedulefree", "bitsandbytes", "pytorch_optimizer"}
    assert len(MAKERS) > 40
