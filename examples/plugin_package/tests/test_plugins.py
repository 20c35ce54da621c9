import pytest
import torch
from trainkit_tally.callback import Tally
from trainkit_tally.gradient_noise import GradientNoise
from trainkit_tally.strategy import TalliedDevice

from trainkit.testing import TinyData, TinyModule, check_callback, check_strategy, quiet_trainer


def test_they_keep_the_contracts_of_their_kinds():
    check_callback(Tally)
    check_callback(GradientNoise)
    check_strategy(TalliedDevice)


def test_noise_falls_with_the_steps():
    noise, trainer = GradientNoise(scale=1.0, decay=1.0), quiet_trainer()
    parameter = torch.nn.Parameter(torch.zeros(10_000))
    optimizer = torch.optim.SGD([parameter], lr=0.1)
    sizes = []
    for step in (0, 9):
        trainer.progress.global_step = step
        parameter.grad = torch.zeros(10_000)
        noise.on_before_optimizer_step(trainer, optimizer)
        sizes.append(float(parameter.grad.std()))
    assert sizes == pytest.approx([1.0, 0.1], rel=0.05)


def test_a_run_that_goes_on_draws_the_same(tmp_path):
    def fit(epochs, path=None, save=None):
        torch.manual_seed(0)
        module, trainer = TinyModule(), quiet_trainer(max_epochs=epochs, callbacks=[GradientNoise(), Tally()])
        trainer.fit(module, TinyData(4), ckpt_path=path)
        if save:
            trainer.save_checkpoint(save)
        return module.state_dict()

    fit(1, save=tmp_path / "one.ckpt")
    whole, resumed = fit(2), fit(2, path=tmp_path / "one.ckpt")
    assert all(torch.equal(whole[name], resumed[name]) for name in whole)


def test_wrong_arguments_are_refused():
    with pytest.raises(ValueError, match="scale=-1"):
        GradientNoise(scale=-1)
