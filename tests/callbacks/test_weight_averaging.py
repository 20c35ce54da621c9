from __future__ import annotations

import pytest
import torch
from torch import nn

from trainkit.callbacks import Callback, EMAWeightAveraging, ModelCheckpoint, WeightAveraging
from trainkit.errors import ConfigError, StateError
from trainkit.testing import TinyData, TinyModule, quiet_trainer


class Weights(Callback):
    """Notes the weights after each update, and those that a validation sees."""

    stage = "setup"

    def __init__(self):
        self.trained, self.validated = [], []

    def on_train_batch_end(self, module):
        self.trained.append(module.layer.weight.detach().clone())

    def on_validation_batch_start(self, module):
        self.validated.append(module.layer.weight.detach().clone())


def fit(averaging, **arguments):
    """Train two epochs of three batches, validating after each."""
    weights, module = Weights(), TinyModule()
    trainer = quiet_trainer(**({"max_epochs": 2, "callbacks": [averaging, weights]} | arguments))
    trainer.fit(module, TinyData(3), TinyData(1))
    return weights, module


def close(one, other):
    return torch.allclose(one, other, atol=1e-6)


def test_the_mean_of_all_updates_is_validated_and_is_what_training_ends_with():
    weights, module = fit(WeightAveraging())
    assert close(weights.validated[0], torch.stack(weights.trained[:3]).mean(0))
    assert close(module.layer.weight, torch.stack(weights.trained).mean(0))
    assert not close(weights.trained[3], weights.validated[0]), "training goes on with the newest weights"


def test_each_hook_of_the_module_in_a_validation_sees_the_average():
    seen = {}

    class Looks(TinyModule):
        def on_validation_start(self):
            seen["start"] = self.layer.weight.detach().clone()

        def on_validation_epoch_end(self):
            seen["epoch_end"] = self.layer.weight.detach().clone()

        def on_validation_end(self):
            seen["end"] = self.layer.weight.detach().clone()

        def on_train_epoch_end(self):
            seen["train"] = self.layer.weight.detach().clone()

    weights = Weights()
    quiet_trainer(max_epochs=1, callbacks=[WeightAveraging(), weights]).fit(Looks(), TinyData(3), TinyData(1))
    average = torch.stack(weights.trained).mean(0)
    assert all(close(seen[name], average) for name in ("start", "epoch_end", "end"))
    assert torch.equal(seen["train"], weights.trained[-1])


def test_an_exponential_mean_forgets():
    weights, module = fit(EMAWeightAveraging(decay=0.5))
    expected = weights.trained[0]
    for newest in weights.trained[1:]:
        expected = 0.5 * expected + 0.5 * newest
    assert close(module.layer.weight, expected)


@pytest.mark.parametrize(
    ("arguments", "averaged"),
    [
        ({"update_every_n_steps": 2}, [0, 2, 4]),
        ({"update_starting_at_step": 4}, [4, 5]),
        ({"update_starting_at_step": 99, "update_starting_at_epoch": 1}, [5]),
    ],
)
def test_which_updates_are_averaged_may_be_said(arguments, averaged):
    weights, module = fit(EMAWeightAveraging(decay=0.5, **arguments))
    expected = weights.trained[averaged[0]]
    for index in averaged[1:]:
        expected = 0.5 * expected + 0.5 * weights.trained[index]
    assert close(module.layer.weight, expected)


def test_a_checkpoint_holds_the_average_as_weights(tmp_path):
    weights, _ = (
        fit(WeightAveraging(), callbacks=None)
        if False
        else fit(WeightAveraging(), enable_checkpointing=True, default_root_dir=tmp_path)
    )
    (path,) = tmp_path.rglob("epoch*.ckpt")
    loaded = TinyModule.load_from_checkpoint(path)
    assert close(loaded.layer.weight, torch.stack(weights.trained).mean(0))


def test_buffers_may_be_left_out():
    class Normed(TinyModule):
        def __init__(self):
            super().__init__()
            self.norm = nn.BatchNorm1d(4)

        def forward(self, x):
            return super().forward(self.norm(x))

    def statistics(**options):
        module = Normed()
        quiet_trainer(callbacks=[WeightAveraging(**options)]).fit(module, TinyData(3))
        return module.norm.running_mean

    plain = Normed()
    quiet_trainer().fit(plain, TinyData(3))
    assert not close(statistics(), plain.norm.running_mean)


def test_an_exception_in_a_validation_leaves_the_newest_weights():
    class Breaks(TinyModule):
        def validation_step(self, batch, batch_idx):
            raise ZeroDivisionError

    weights, module = Weights(), Breaks()
    with pytest.raises(ZeroDivisionError):
        quiet_trainer(callbacks=[WeightAveraging(), weights]).fit(module, TinyData(3), TinyData(1))
    assert close(module.layer.weight, weights.trained[-1])


def test_a_decay_is_a_share():
    with pytest.raises(ConfigError, match=r"decay=1\.5"):
        EMAWeightAveraging(decay=1.5)


def test_it_goes_with_a_checkpoint_callback(tmp_path):
    callbacks = [EMAWeightAveraging(decay=0.9), ModelCheckpoint(tmp_path, monitor="val/loss")]
    trainer = quiet_trainer(max_epochs=2, callbacks=callbacks, enable_checkpointing=True)
    trainer.fit(TinyModule(), TinyData(3), TinyData(1))
    seen = trainer.callback_metrics["val/loss"]
    best = TinyModule.load_from_checkpoint(callbacks[1].best_model_path)
    (found,) = quiet_trainer().validate(best, TinyData(1), verbose=False)
    assert found["val/loss"] == pytest.approx(min(seen.item(), callbacks[1].best_model_score.item()))


@pytest.mark.parametrize("n_averaged", [None, -1, 0.5, torch.tensor(0.5), torch.tensor(-1), torch.tensor([1])])
def test_an_average_of_nobody_knows_how_many_weights_is_refused(n_averaged):
    state = {"latest_update_step": 3, "average": {"a": torch.ones(1)}}
    with pytest.raises(StateError, match="n_averaged"):
        WeightAveraging().load_state_dict(state if n_averaged is None else state | {"n_averaged": n_averaged})
