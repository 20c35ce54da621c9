"""A checkpoint that is saved by hand, in whatever hook, is continued as if the run had been left alone."""

from __future__ import annotations

import csv
import itertools

import pytest
import torch
from torch.utils.data import DataLoader, TensorDataset

from trainkit import Trainer
from trainkit.callbacks import CSVLogger, EarlyStopping, ModelCheckpoint
from trainkit.testing import TinyModule, assert_same_state, assert_same_weights, quiet_trainer

HOOKS = [
    "on_train_epoch_start",
    "on_train_batch_end",
    "on_validation_start",
    "on_validation_epoch_start",
    "on_validation_batch_end",
    "on_validation_epoch_end",
    "on_validation_end",
    "on_train_epoch_end",
    "on_train_end",
]


class Killed(Exception):
    """Stands for a kill: what the process does after it does not count."""


class Saves(TinyModule):
    """Saves at the n-th call of a hook, ahead of all plugins that decide, and is killed."""

    hook, path = "", ""
    at = 0

    def configure_optimizers(self):
        optimizer = torch.optim.SGD(self.parameters(), lr=0.1, momentum=0.9)
        plateau = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, patience=0, factor=0.5, threshold=0.5)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": plateau, "monitor": "val/loss"}}

    def training_step(self, batch, batch_idx):
        loss = self.loss(batch)
        self.log("train/loss", loss, on_step=True, on_epoch=True)
        return loss

    def validation_step(self, batch, batch_idx):
        self.log("val/loss", self.loss(batch))

    def called(self, hook):
        if hook == self.hook:
            self.at -= 1
            if self.at == 0:
                self.trainer.save_checkpoint(self.path)
                raise Killed


for each in HOOKS:
    setattr(Saves, each, lambda self, hook=each: self.called(hook))


class Noisy(TinyModule):
    """Draws random numbers in training."""

    def training_step(self, batch, batch_idx):
        return self.loss((torch.nn.functional.dropout(batch[0]), batch[1]))

    def validation_step(self, batch, batch_idx):
        pass


class Counts:
    """Is called behind the module, and so may have missed a hook or seen it twice."""

    def __init__(self):
        self.calls = {}

    def state_dict(self):
        return dict(self.calls)

    def load_state_dict(self, state):
        self.calls = dict(state)

    def count(self, hook):
        self.calls[hook] = self.calls.get(hook, 0) + 1


# The hooks of a validation's start are called again when it is continued.
for each in {*HOOKS} - {"on_validation_start", "on_validation_epoch_start"}:
    setattr(Counts, each, lambda self, hook=each: self.count(hook))


def loader(batch_size, shuffle=False):
    x = torch.randn(12, 4, generator=torch.Generator().manual_seed(3))
    return DataLoader(TensorDataset(x, x[:, :2].abs()), batch_size=batch_size, shuffle=shuffle)


def run(folder, hook="", at=0, ckpt_path=None, **arguments):
    torch.manual_seed(0)
    module = Saves()
    module.hook, module.at, module.path = hook, at, folder / "by-hand.ckpt"
    counts = Counts()
    trainer = quiet_trainer(
        default_root_dir=folder,
        enable_checkpointing=True,
        num_sanity_val_steps=0,
        log_every_n_steps=1,
        logger=CSVLogger(folder, version=0),
        callbacks=[
            counts,
            EarlyStopping("val/loss", patience=2, min_delta=0.3),
            ModelCheckpoint(folder / "ranked", monitor="val/loss", save_top_k=2),
        ],
        **({"max_epochs": 4} | arguments),
    )
    trainer.fit(module, loader(3, shuffle=True), loader(6), ckpt_path=ckpt_path)
    return trainer, counts.calls


def result(folder, trainer, calls):
    with open(folder / "trainkit_logs/version_0/metrics.csv") as file:
        rows = list(csv.DictReader(file))
    files = sorted(path.name for path in (folder / "ranked").iterdir())
    return {
        "weights": dict(trainer.module.state_dict()),
        "optimizer": trainer.optimizers[0].state_dict(),
        "rows": rows,
        "files": files,
        "best": trainer.checkpoint_callback.best_model_score,
        "calls": calls,
    }


@pytest.mark.filterwarnings("ignore:nothing is left to train")
@pytest.mark.parametrize("arguments", [{}, {"val_check_interval": 2}, {"max_steps": 6}], ids=str)
def test_a_run_goes_on_within_the_hook_in_which_it_was_saved(tmp_path, arguments):
    whole = result(tmp_path / "whole", *run(tmp_path / "whole", **arguments))
    stops = 0
    for hook, at in itertools.product(HOOKS, (1, 2, 5)):
        folder = tmp_path / f"{hook}-{at}"
        try:
            run(folder, hook, at, **arguments)
        except Killed:
            stops += 1
            continued = run(folder, ckpt_path=folder / "by-hand.ckpt", **arguments)
            assert_same_state(result(folder, *continued), whole, where=f"{hook} {at}")
    assert stops > 10


def test_a_hook_that_asks_for_the_batch_is_named_where_it_cannot_be_called(tmp_path):
    class Wants:
        def on_train_batch_end(self, outputs):
            pass

    class SavesFirst(TinyModule):
        def on_train_batch_end(self, batch_idx):
            if batch_idx == 1:
                self.trainer.save_checkpoint(tmp_path / "file.ckpt")

    quiet_trainer(callbacks=[Wants()]).fit(SavesFirst(), loader(4))
    with pytest.warns(UserWarning, match="saved in on_train_batch_end, ahead of Wants, which asks for the batch"):
        quiet_trainer(callbacks=[Wants()]).fit(TinyModule(), loader(4), ckpt_path=tmp_path / "file.ckpt")


def test_what_is_due_is_saved_again_until_it_is_done(tmp_path):
    class SavesAgain(TinyModule):
        def on_train_start(self):
            self.trainer.save_checkpoint(tmp_path / "again.ckpt")

    try:
        run(tmp_path, "on_train_epoch_end", 1)
    except Killed:
        pass
    first = torch.load(tmp_path / "by-hand.ckpt")["trainkit"]["due"]
    assert first["name"] == "on_train_epoch_end"
    trainer = quiet_trainer(max_epochs=2, callbacks=[Counts()])

    class Module(Saves):
        on_train_start = SavesAgain.on_train_start

    trainer.fit(Module(), loader(3, shuffle=True), loader(6), ckpt_path=tmp_path / "by-hand.ckpt")
    assert torch.load(tmp_path / "again.ckpt")["trainkit"]["due"] == first
    assert "due" not in trainer.dump_checkpoint()["trainkit"]


def test_nothing_is_due_from_an_evaluation_or_the_sanity_check(tmp_path):
    seen = []

    class Looks(TinyModule):
        def validation_step(self, batch, batch_idx):
            pass

        def on_validation_end(self):
            seen.append("due" in self.trainer.dump_checkpoint()["trainkit"])

    module = Looks()
    trainer = Trainer(
        max_epochs=1,
        default_root_dir=tmp_path,
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(module, loader(4), loader(4))
    trainer.validate(module, loader(4))
    assert seen == [False, True, False]


def test_a_state_that_is_saved_in_the_sanity_check_begins_the_run_as_it_would_have_begun(tmp_path):
    class SavesInTheCheck(Noisy):
        def on_validation_end(self):
            if self.trainer.sanity_checking:
                torch.rand(3)
                self.trainer.save_checkpoint(tmp_path / "file.ckpt")

    torch.manual_seed(5)
    whole = SavesInTheCheck()
    quiet_trainer(num_sanity_val_steps=1).fit(whole, loader(3, shuffle=True), loader(6))
    torch.manual_seed(6)
    resumed = Noisy(seed=9)
    quiet_trainer().fit(resumed, loader(3, shuffle=True), loader(6), ckpt_path=tmp_path / "file.ckpt")
    assert_same_weights(resumed, whole)


def test_the_rest_of_a_hook_within_a_validation_is_called_as_it_would_have_been(tmp_path):
    seen = []

    class Looks:
        def on_validation_batch_end(self, trainer, module, batch_idx, dataloader_idx):
            seen.append((batch_idx, dataloader_idx, module.training, torch.is_grad_enabled(), trainer.validating))

    class Saving(Noisy):
        def on_validation_batch_end(self, batch_idx):
            if not self.trainer.sanity_checking and batch_idx == 1:
                self.trainer.save_checkpoint(tmp_path / "file.ckpt")

    quiet_trainer(callbacks=[Looks()]).fit(Saving(), loader(3), loader(4))
    whole, seen = seen, []
    quiet_trainer(callbacks=[Looks()]).fit(Noisy(), loader(3), loader(4), ckpt_path=tmp_path / "file.ckpt")
    assert seen == whole[1:] == [(1, 0, False, False, True), (2, 0, False, False, True)]
