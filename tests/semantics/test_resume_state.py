"""What a resumed run has besides weights and counters: metrics, gradients, flags, loaders; and its hooks once."""

from __future__ import annotations

import pytest
import torch
import torchmetrics
from torch import nn

from trainkit.testing import Recorder, TinyData, TinyModule, assert_same_weights, quiet_trainer


class SavesAt:
    """Saves once, the first time that a hook is called at a place."""

    stage = "persist"

    def __init__(self, path, hook, epoch=0, batch=None):
        self.path, self.epoch, self.batch, self.done = path, epoch, batch, False
        setattr(self, hook, self._save)

    def _save(self, trainer):
        here = trainer.current_epoch == self.epoch and self.batch in (None, trainer.progress.batch)
        if here and not self.done and not trainer.sanity_checking:
            self.done = True
            trainer.save_checkpoint(self.path)


def whole_and_resumed(make, hook, tmp_path, *, epoch=0, batch=None, val=0, batches=6, epochs=3, **arguments):
    """Return the modules of a run, and of one that was resumed from where ``hook`` saved."""
    path = tmp_path / "file.ckpt"
    whole, resumed = make(), make()
    torch.manual_seed(0)
    trainer = quiet_trainer(max_epochs=epochs, callbacks=[SavesAt(path, hook, epoch, batch)], **arguments)
    trainer.fit(whole, TinyData(batches), TinyData(val) if val else None)
    torch.manual_seed(1)
    quiet_trainer(max_epochs=epochs, **arguments).fit(
        resumed, TinyData(batches), TinyData(val) if val else None, ckpt_path=path
    )
    return whole, resumed


# torchmetrics


class Counts(TinyModule):
    """Counts the batches of each phase with torchmetrics objects, logged in the step or in a hook."""

    in_hooks = False

    def __init__(self):
        super().__init__()
        self.trained, self.validated = torchmetrics.SumMetric(), torchmetrics.SumMetric()
        self.seen = []

    def training_step(self, batch, batch_idx):
        self.trained.update(1.0)
        if not self.in_hooks:
            self.log("trained", self.trained, on_step=False, on_epoch=True)
        return self.loss(batch)

    def validation_step(self, batch, batch_idx):
        self.validated.update(1.0)
        if not self.in_hooks:
            self.log("validated", self.validated)

    def on_validation_epoch_end(self):
        if self.in_hooks:
            self.log("validated", self.validated)

    def on_train_epoch_end(self):
        if self.in_hooks:
            self.log("trained", self.trained)

    def on_train_epoch_start(self):
        self.note()

    def on_train_end(self):
        self.note()

    def note(self):
        found = self.trainer.callback_metrics
        self.seen.append({name: found[name].item() for name in ("trained", "validated") if name in found})


class CountsInHooks(Counts):
    in_hooks = True


@pytest.mark.parametrize("make", [Counts, CountsInHooks])
@pytest.mark.parametrize("hook", ["on_train_epoch_end", "on_validation_end", "on_validation_epoch_end"])
def test_metric_objects_begin_a_phase_without_the_data_of_one_that_was_over(tmp_path, make, hook):
    whole, resumed = whole_and_resumed(make, hook, tmp_path, val=3)
    assert whole.seen[-1] == {"trained": 6.0, "validated": 3.0}
    assert resumed.seen == whole.seen[len(whole.seen) - len(resumed.seen) :]


@pytest.mark.parametrize("make", [Counts, CountsInHooks])
def test_metric_objects_go_on_within_a_phase(tmp_path, make):
    whole, resumed = whole_and_resumed(make, "on_train_batch_end", tmp_path, epoch=1, batch=4, val=3)
    assert resumed.seen == whole.seen[len(whole.seen) - len(resumed.seen) :]


# Gradients of manual optimization


class StepsEveryThird(TinyModule):
    automatic_optimization = False

    def training_step(self, batch, batch_idx):
        self.manual_backward(self.loss(batch))
        if (batch_idx + 1) % 3 == 0:
            self.optimizers().step()
            self.optimizers().zero_grad()


@pytest.mark.parametrize("batch", range(1, 7))
def test_gradients_of_manual_optimization_wait_for_their_step(tmp_path, batch):
    whole, resumed = whole_and_resumed(StepsEveryThird, "on_train_batch_end", tmp_path, epoch=1, batch=batch)
    assert_same_weights(resumed, whole)


# Hooks and flags


class CountsEpochs(TinyModule):
    """Zeroes a buffer when an epoch starts, and counts batches in it."""

    def __init__(self):
        super().__init__()
        self.register_buffer("count", torch.zeros(()))
        self.seen = []

    def on_train_epoch_start(self):
        self.count.zero_()
        self.log("started", float(self.current_epoch + 1))

    def training_step(self, batch, batch_idx):
        self.count += 1
        return self.loss(batch) * self.count

    def on_train_epoch_end(self):
        self.seen.append(self.count.item())

    def on_train_end(self):
        self.seen.append(self.trainer.callback_metrics["started"].item())


@pytest.mark.parametrize("batch", [1, 3, 5])
def test_an_epoch_that_is_resumed_is_not_started_again(tmp_path, batch):
    whole, resumed = whole_and_resumed(CountsEpochs, "on_train_batch_end", tmp_path, epoch=1, batch=batch)
    assert whole.seen == [6.0, 6.0, 6.0, 3.0]
    assert resumed.seen == whole.seen[1:]
    assert_same_weights(resumed, whole)


def test_the_hook_is_called_for_the_epochs_that_follow(tmp_path):
    recorder = Recorder(only=["on_train_epoch_start"], look=lambda trainer, module: trainer.current_epoch)
    path = tmp_path / "file.ckpt"
    quiet_trainer(callbacks=[SavesAt(path, "on_train_batch_end", batch=2)]).fit(TinyModule(), TinyData(4))
    quiet_trainer(max_epochs=3, callbacks=[recorder]).fit(TinyModule(), TinyData(4), ckpt_path=path)
    assert recorder.seen("on_train_epoch_start") == [1, 2]


class Thaws(TinyModule):
    """Freezes a layer and switches another to eval mode once, in its second epoch."""

    def __init__(self):
        super().__init__()
        self.second = nn.Linear(2, 2)
        self.norm = nn.BatchNorm1d(2)
        self.second.requires_grad_(False)

    def forward(self, x):
        return self.norm(self.second(self.layer(x)))

    def on_train_epoch_start(self):
        if self.current_epoch == 1:
            self.second.requires_grad_(True)
            self.layer.bias.requires_grad_(False)
            self.norm.eval()


@pytest.mark.parametrize(
    ("hook", "batch"), [("on_train_batch_end", 2), ("on_train_epoch_end", None), ("on_validation_batch_end", None)]
)
def test_flags_and_modes_that_were_set_in_training_go_on(tmp_path, hook, batch):
    whole, resumed = whole_and_resumed(Thaws, hook, tmp_path, epoch=1, batch=batch, val=2)
    assert not resumed.norm.training
    assert resumed.training
    assert resumed.second.weight.requires_grad
    assert not resumed.layer.bias.requires_grad
    assert_same_weights(resumed, whole)


# Weights


@pytest.mark.parametrize("batch", [2, 5])
def test_doubles_stay_doubles(tmp_path, batch):
    whole, resumed = whole_and_resumed(
        TinyModule, "on_train_batch_end", tmp_path, epoch=1, batch=batch, precision="64-true"
    )
    assert resumed.layer.weight.dtype is torch.float64
    assert_same_weights(resumed, whole)


@pytest.mark.parametrize("stage", ["validate", "test", "predict"])
def test_doubles_are_evaluated_as_they_were_saved(tmp_path, stage):
    module = TinyModule()
    trainer = quiet_trainer(precision="64-true")
    trainer.fit(module, TinyData(3))
    trainer.save_checkpoint(tmp_path / "file.ckpt")
    other = TinyModule()
    getattr(quiet_trainer(precision="64-true"), stage)(other, TinyData(1), ckpt_path=tmp_path / "file.ckpt")
    assert_same_weights(other, module)


# Loaders that keep a state of their own


class Stateful:
    """As torchdata's loader: `iter` goes on where a state says, once, and stays at its end until the next `iter`."""

    def __init__(self, length):
        self.length, self.position, self.passes, self.restored = length, 0, 0, None

    def __len__(self):
        return self.length

    def __iter__(self):
        if self.restored is None:
            self.position = 0
            self.passes += 1
        else:
            self.position, self.passes, self.restored = *self.restored, None
        return self._batches()

    def _batches(self):
        generator = torch.Generator().manual_seed(self.passes)
        batches = [(torch.randn(2, 4, generator=generator), torch.zeros(2, 2)) for _ in range(self.length)]
        while self.position < self.length:
            self.position += 1
            yield batches[self.position - 1]

    def state_dict(self):
        return {"position": self.position, "passes": self.passes}

    def load_state_dict(self, state):
        self.restored = state["position"], state["passes"]


class Notes(TinyModule):
    def __init__(self):
        super().__init__()
        self.trained, self.validated = [], []

    def training_step(self, batch, batch_idx):
        self.trained.append((self.current_epoch, batch_idx, batch[0].sum().item()))
        return self.loss(batch)

    def validation_step(self, batch, batch_idx):
        self.validated.append((self.current_epoch, batch_idx, batch[0].sum().item()))


@pytest.mark.parametrize("limit", [1.0, 4])
@pytest.mark.parametrize(
    ("hook", "batch"), [("on_train_batch_end", 2), ("on_train_batch_end", 6), ("on_train_epoch_end", None)]
)
def test_a_loader_with_a_state_gives_whole_epochs_and_validations(tmp_path, hook, batch, limit):
    path, arguments = tmp_path / "file.ckpt", {"max_epochs": 3, "limit_val_batches": limit}
    whole, resumed = Notes(), Notes()
    quiet_trainer(callbacks=[SavesAt(path, hook, 1, batch)], **arguments).fit(whole, Stateful(6), Stateful(5))
    quiet_trainer(**arguments).fit(resumed, Stateful(6), Stateful(5), ckpt_path=path)
    assert len(whole.trained) == 18
    assert resumed.trained == whole.trained[len(whole.trained) - len(resumed.trained) :]
    assert resumed.validated == whole.validated[len(whole.validated) - len(resumed.validated) :]
    assert_same_weights(resumed, whole)


# Optimizers


@pytest.mark.parametrize("precision", ["64-true", "bf16-true"])
@pytest.mark.parametrize("optimizer", [torch.optim.ASGD, torch.optim.NAdam])
def test_scalars_of_an_optimizer_keep_the_dtype_that_they_have_beside_the_parameters(optimizer, precision, tmp_path):
    class Module(TinyModule):
        def configure_optimizers(self):
            self.own = optimizer(self.parameters(), lr=0.05)
            return self.own

    whole, resumed = whole_and_resumed(Module, "on_train_batch_end", tmp_path, batch=3, precision=precision)
    assert_same_weights(resumed, whole)
    dtypes = [
        [value.dtype for state in module.own.state.values() for value in state.values()] for module in (whole, resumed)
    ]
    assert dtypes[0] == dtypes[1]


def test_with_another_precision_the_states_of_an_optimizer_follow_the_parameters(tmp_path):
    class Module(TinyModule):
        def configure_optimizers(self):
            return torch.optim.Adam(self.parameters())

    path = tmp_path / "file.ckpt"
    saves = SavesAt(path, "on_train_batch_end", batch=2)
    quiet_trainer(callbacks=[saves], precision="64-true").fit(Module(), TinyData(4))
    trainer = quiet_trainer()
    trainer.fit(Module(), TinyData(4), ckpt_path=path)
    assert {state["exp_avg"].dtype for state in trainer.optimizers[0].state.values()} == {torch.float32}
