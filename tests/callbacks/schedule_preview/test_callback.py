from __future__ import annotations

import io
import random
import sys

import pytest
import torch
from torch.optim import SGD
from torch.optim.lr_scheduler import LambdaLR, ReduceLROnPlateau, StepLR

from tests.callbacks.schedule_preview.schedules import CLASSES, make
from trainkit.callbacks.schedule_preview import callback
from trainkit.data import TensorLoader
from trainkit.testing import TinyData, TinyModule, assert_same_weights, check_callback, quiet_trainer


class Scheduled(TinyModule):
    """Drops inputs at random, and steps one scheduler of a kind."""

    def __init__(self, kind=StepLR, interval="step"):
        super().__init__()
        self.kind, self.interval = kind, interval

    def training_step(self, batch, batch_idx):
        x, y = batch
        return self.loss((torch.nn.functional.dropout(x), y))

    def scheduler(self, optimizer):
        return make(self.kind, optimizer)

    def configure_optimizers(self):
        self.made = SGD(self.parameters(), lr=0.05, momentum=0.9)
        self.lr = self.scheduler(self.made)
        return {"optimizer": self.made, "lr_scheduler": {"scheduler": self.lr, "interval": self.interval}}


class Stops(Scheduled):
    def on_train_batch_end(self):
        self.trainer.should_stop = True


class Stream:
    """Batches that do not say how many they are."""

    def __iter__(self):
        return iter(TinyData(4))


def told(capsys, module, data=None, **arguments):
    quiet_trainer(print_schedule=True, **({"max_epochs": 3} | arguments)).fit(module, data or TinyData(4))
    return capsys.readouterr().out.splitlines()


@pytest.mark.parametrize("interval", ["step", "epoch"])
@pytest.mark.parametrize("kind", CLASSES, ids=lambda kind: kind.__name__)
@pytest.mark.filterwarnings("ignore:OneCycleLR .* steps once per epoch")
@pytest.mark.filterwarnings("ignore:.* rises again after")
def test_a_fit_is_bit_for_bit_the_one_without_it(kind, interval, capsys):
    ends = []
    for draws in (False, True):
        torch.manual_seed(0)
        module = Scheduled(kind, interval)
        quiet_trainer(print_schedule=draws, max_epochs=3).fit(module, TinyData(4))
        state = {name: value for name, value in module.lr.state_dict().items() if name != "_schedulers"}
        ends.append((module, repr(state), module.made.state_dict()["param_groups"], torch.get_rng_state().tolist()))
    (one, *state), (other, *same) = ends
    assert_same_weights(one, other)
    assert state == same
    assert capsys.readouterr().out.startswith("trainkit: learning rates of 12 updates\nlr: ")


def test_what_a_schedule_draws_at_random_is_not_missed_by_the_fit():
    class Random(Scheduled):
        def scheduler(self, optimizer):
            return LambdaLR(optimizer, lambda step: random.random() + torch.rand(()).item())

    ends = []
    for draws in (False, True):
        torch.manual_seed(0)
        random.seed(0)
        module = Random()
        quiet_trainer(print_schedule=draws, max_epochs=2).fit(module, TinyData(4))
        ends.append(module)
    assert_same_weights(*ends)


def test_a_curve_is_drawn_ahead_of_the_first_batch(capsys):
    class Prints(Scheduled):
        def on_train_start(self):
            print("now it begins")

    lines = told(capsys, Prints())
    assert lines[0] == "trainkit: learning rates of 12 updates"
    assert lines[1] == "lr: starts at 0.05, its highest, ends at 0.0084"
    assert lines[-3:] == [lines[-3], lines[-2], "now it begins"]
    assert lines[-2].split() == ["epoch", "1", "2", "3"]


def test_what_cannot_be_known_is_said(capsys):
    class Plateau(Scheduled):
        def configure_optimizers(self):
            optimizer = SGD(self.parameters(), lr=0.05)
            return {"optimizer": optimizer, "lr_scheduler": ReduceLROnPlateau(optimizer), "monitor": "loss"}

        def training_step(self, batch, batch_idx):
            self.log("loss", loss := self.loss(batch))
            return loss

    assert told(capsys, Plateau())[1:] == [
        "lr: not drawn: ReduceLROnPlateau goes by 'loss', which nobody can foresee; it begins with 0.05",
    ]

    class ByHand(Scheduled):
        def lr_scheduler_step(self, scheduler, metric):
            scheduler.step()

    assert told(capsys, ByHand())[1:] == ["lr: not drawn: ByHand steps StepLR itself; it begins with 0.05"]

    class BySamples(Scheduled):
        def configure_optimizers(self):
            optimizer = SGD(self.parameters(), lr=0.1)
            return {"optimizer": optimizer, "lr_scheduler": {"scheduler": StepLR(optimizer, 1), "every": "8 samples"}}

    assert told(capsys, BySamples())[1:] == [
        "lr: not drawn: StepLR goes by samples, and the loader does not tell how many are in a batch; it begins "
        "with 0.1"
    ]
    lines = told(capsys, BySamples(), TensorLoader(torch.randn(16, 4), torch.randn(16, 2), batch_size=4))
    assert lines[1] == "lr: starts at 0.1, its highest, ends at 1e-06"
    assert lines[-1] == "note: StepLR goes by samples, of which the loader has 4 in a batch."


def test_of_a_run_without_a_known_end_the_beginning_is_drawn(capsys, monkeypatch):
    monkeypatch.setattr(callback, "OF_ENDLESS", 6)
    endless = "trainkit: learning rates of the next 6 updates, of which nobody knows how many there are going to be"
    lines = told(capsys, Scheduled(interval="epoch"), Stream())
    assert lines == [
        endless,
        "lr: not drawn: StepLR steps by epoch, and nobody knows the length of one; it begins with 0.05",
    ]
    assert told(capsys, Stops(), max_epochs=-1)[0] == endless
    assert told(capsys, Scheduled(), Stream(), max_steps=9)[0] == "trainkit: learning rates of 9 updates"
    monkeypatch.setattr(callback, "MOST_UPDATES", 5)
    assert told(capsys, Scheduled())[0] == "trainkit: learning rates of the first 5 of 12 updates"


def test_a_fit_that_goes_on_draws_what_is_left(capsys, tmp_path):
    trainer = quiet_trainer(max_epochs=2)
    trainer.fit(Scheduled(), TinyData(4))
    trainer.save_checkpoint(tmp_path / "a.ckpt")
    quiet_trainer(print_schedule=True, max_epochs=3).fit(Scheduled(), TinyData(4), ckpt_path=tmp_path / "a.ckpt")
    assert capsys.readouterr().out.startswith("trainkit: learning rates of 4 updates that are left\n")
    with pytest.warns(UserWarning, match="nothing is left to train"):
        quiet_trainer(print_schedule=True, max_epochs=2).fit(Scheduled(), TinyData(4), ckpt_path=tmp_path / "a.ckpt")
    assert capsys.readouterr().out == ""


@pytest.mark.filterwarnings("ignore:configure_optimizers.. returned None")
def test_a_fit_that_updates_nothing_has_no_rates(capsys):
    class Nothing(TinyModule):
        def configure_optimizers(self):
            return None

    assert told(capsys, Nothing()) == []


def test_ascii_is_drawn_where_there_are_no_other_characters(monkeypatch):
    written = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(written, encoding="ascii", write_through=True))
    quiet_trainer(print_schedule=True, max_epochs=3).fit(Scheduled(), TinyData(4))
    assert b"|####" in written.getvalue()


def test_the_width_is_that_of_the_terminal(capsys, monkeypatch):
    monkeypatch.setattr(callback, "output_kind", lambda: "terminal")
    monkeypatch.setenv("COLUMNS", "50")
    assert max(map(len, told(capsys, Scheduled())[2:])) == 50
    monkeypatch.setenv("COLUMNS", "400")
    assert max(map(len, told(capsys, Scheduled())[2:])) == callback.MOST_WIDTH


def test_contract():
    check_callback(callback.SchedulePreview)
