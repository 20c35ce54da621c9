from __future__ import annotations

import pytest
import torch
from torch import nn

from trainkit.precision import BFloat16, Float32
from trainkit.strategies import SingleDevice
from trainkit.testing import TinyData, TinyModule, quiet_trainer
from trainkit.trainer.place_module import place_module, sync_batchnorm


def test_batchnorm_layers_are_converted_wherever_they_are():
    module = TinyModule()
    module.one = nn.BatchNorm1d(2)
    module.deep = nn.Sequential(nn.Sequential(nn.BatchNorm2d(2), nn.ReLU()))
    weight = module.one.weight
    sync_batchnorm(module)
    assert isinstance(module.one, nn.SyncBatchNorm)
    assert isinstance(module.deep[0][0], nn.SyncBatchNorm)
    assert isinstance(module.deep[0][1], nn.ReLU)
    assert isinstance(module, TinyModule)
    assert module.one.weight is weight


class Watching(SingleDevice):
    """Notes what a module is like when it is wrapped."""

    def wrap(self, module):
        self.dtype = module.dtype
        self.is_compiled = module._compiled_call_impl is not None
        super().wrap(module)


@pytest.mark.parametrize("compiles", [False, True])
def test_a_module_is_wrapped_when_it_is_converted_and_compiled(compiles):
    strategy, module = Watching("cpu"), TinyModule()
    arguments = quiet_trainer(compile=compiles).arguments.optimization
    place_module(module, strategy, BFloat16(), arguments)
    assert strategy.dtype is module.dtype is torch.bfloat16
    assert strategy.is_compiled is compiles


def test_on_one_rank_batch_norm_stays_as_it_is():
    class Normed(TinyModule):
        def __init__(self):
            super().__init__()
            self.norm = nn.BatchNorm1d(2)

    module = Normed()
    place_module(module, SingleDevice("cpu"), Float32(), quiet_trainer(sync_batchnorm=True).arguments.optimization)
    assert type(module.norm) is nn.BatchNorm1d


def test_optimizers_hold_the_parameters_that_the_placed_module_has():
    module = TinyModule()
    trainer = quiet_trainer(precision="bf16-true")
    trainer.fit(module, TinyData(1))
    assert trainer.optimizers[0].param_groups[0]["params"][0] is module.layer.weight
    assert module.layer.weight.dtype is torch.bfloat16
