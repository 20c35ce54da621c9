from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.optim.lr_scheduler import StepLR

from trainkit.callbacks import Callback, StochasticWeightAveraging
from trainkit.errors import ConfigError, OptimizerError, StateError
from trainkit.testing import TinyData, TinyModule, quiet_trainer


class Scheduled(TinyModule):
    """With BatchNorm, and a scheduler of its own."""

    def __init__(self):
        super().__init__()
        self.norm = nn.BatchNorm1d(4)

    def forward(self, x):
        return super().forward(self.norm(x))

    def configure_optimizers(self):
        optimizer = torch.optim.SGD(self.parameters(), lr=0.1)
        return [optimizer], [StepLR(optimizer, 1, 0.5)]


class Epochs(Callback):
    """Notes weights and learning rate at the start of each epoch."""

    def __init__(self):
        self.weights, self.rates = [], []

    def on_train_epoch_start(self, trainer, module):
        self.weights.append(module.layer.weight.detach().clone())
        self.rates.append(trainer.optimizers[0].param_groups[0]["lr"])


def test_the_last_epochs_are_averaged_at_a_rate_of_their_own():
    epochs, module, data = Epochs(), Scheduled(), TinyData(3)
    callback = StochasticWeightAveraging(0.02, swa_epoch_start=3, annealing_epochs=2, annealing_strategy="linear")
    trainer = quiet_trainer(max_epochs=6, callbacks=[callback, epochs])
    trainer.fit(module, data)
    assert epochs.rates == pytest.approx([0.1, 0.05, 0.025, 0.0225, 0.02, 0.02])
    assert torch.allclose(module.layer.weight, torch.stack(epochs.weights[2:]).mean(0), atol=1e-6)
    assert trainer.global_step == 18


def test_the_statistics_of_batchnorm_are_those_of_the_average():
    module, data = Scheduled(), TinyData(3)
    quiet_trainer(max_epochs=2, callbacks=[StochasticWeightAveraging(0.02, 1)]).fit(module, data)
    means = torch.stack([x.mean(0) for x, _ in data])
    assert torch.allclose(module.norm.running_mean, means.mean(0), atol=1e-6)
    assert module.norm.momentum == 0.1


def test_a_share_of_the_epochs_may_come_before():
    epochs, module = Epochs(), TinyModule()
    quiet_trainer(max_epochs=4, callbacks=[StochasticWeightAveraging([0.05], 0.75), epochs]).fit(module, TinyData(2))
    assert torch.allclose(module.layer.weight, torch.stack(epochs.weights[2:]).mean(0), atol=1e-6)


def test_a_fit_that_ended_early_keeps_its_weights():
    class Ends(Callback):
        def on_train_epoch_start(self, trainer, module):
            trainer.should_stop = trainer.current_epoch == 2

        def on_train_batch_end(self, module):
            self.newest = module.layer.weight.detach().clone()

    ends, module = Ends(), TinyModule()
    quiet_trainer(max_epochs=5, callbacks=[StochasticWeightAveraging(0.02, 1), ends]).fit(module, TinyData(2))
    assert torch.equal(module.layer.weight, ends.newest)


def test_a_run_that_was_over_and_trains_on_begins_a_new_average(tmp_path):
    class Saves(Callback):
        stage = "persist"

        def on_train_end(self, trainer):
            trainer.save_checkpoint(tmp_path / "over.ckpt")

    def callbacks():
        return StochasticWeightAveraging(0.02, 1, annealing_epochs=2)

    quiet_trainer(max_epochs=3, callbacks=[callbacks(), Saves()]).fit(TinyModule(), TinyData(2))
    epochs, module = Epochs(), TinyModule()
    trainer = quiet_trainer(max_epochs=5, callbacks=[callbacks(), epochs])
    trainer.fit(module, TinyData(2), ckpt_path=tmp_path / "over.ckpt")
    assert torch.allclose(module.layer.weight, torch.stack(epochs.weights).mean(0), atol=1e-6)


@pytest.mark.parametrize(
    "arguments", [{"swa_lrs": 0.0}, {"swa_lrs": [0.1, "x"]}, {"swa_epoch_start": 0}, {"annealing_strategy": "sine"}]
)
def test_arguments_are_checked(arguments):
    with pytest.raises(ConfigError):
        StochasticWeightAveraging(**({"swa_lrs": 0.1} | arguments))


def test_what_it_cannot_average_is_an_error():
    class Manual(TinyModule):
        automatic_optimization = False

    with pytest.raises(OptimizerError, match=r"Manual has automatic_optimization = False"):
        quiet_trainer(callbacks=[StochasticWeightAveraging(0.1)]).fit(Manual(), TinyData(1))
    with pytest.raises(ConfigError, match="a share of max_epochs, which has no limit"):
        quiet_trainer(max_epochs=-1, max_steps=2, callbacks=[StochasticWeightAveraging(0.1)]).fit(
            TinyModule(), TinyData(1)
        )


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"scheduler": None}, "scheduler is None, and begins with the average, of which count is 1"),
        ({"scheduler": {}}, "scheduler: there is no"),
        ({"average": {"layer.weight": torch.ones(2, 4) + 1j}}, "average.layer.weight has the dtype torch.complex64"),
        ({"average": {"layer.weight": torch.ones(4, 2)}}, r"average.layer.weight has the shape \(4, 2\)"),
    ],
)
def test_what_is_wrong_with_its_state_is_told(change, told):
    states = []

    class Changes(Callback):
        stage = "setup"

        def on_train_epoch_end(self, trainer):
            states.append(averaging.state_dict())

        def on_train_epoch_start(self, trainer):
            if states:
                averaging.load_state_dict(states[0] | change)

    averaging = StochasticWeightAveraging(0.02, swa_epoch_start=1)
    with pytest.raises(StateError, match=told):
        quiet_trainer(max_epochs=3, callbacks=[averaging, Changes()]).fit(TinyModule(), TinyData(3))
