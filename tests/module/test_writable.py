"""Tensors that torch does not write into take weights all the same."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from trainkit.callbacks import ModelCheckpoint, StochasticWeightAveraging, WeightAveraging
from trainkit.module.modes import modes_kept
from trainkit.module.writable import is_read_only, make_writable
from trainkit.testing import TinyData, TinyModule, quiet_trainer


class Odd(TinyModule):
    def __init__(self, start=1.0):
        super().__init__()
        self.register_buffer("expanded", torch.full((1,), start).expand(4))
        self.register_buffer("overlapping", torch.arange(6.0).as_strided((3, 3), (1, 1)))
        self.register_buffer("sparse", torch.eye(3).to_sparse())
        self.frozen = nn.Parameter(torch.full((2, 1), start).expand(2, 3), requires_grad=False)
        with torch.inference_mode():
            self.register_buffer("inferred", torch.full((3,), start))


@pytest.mark.parametrize("extra", [list, lambda: [WeightAveraging()], lambda: [StochasticWeightAveraging(0.01, 1)]])
def test_what_was_saved_is_resumed(tmp_path, extra):
    for epochs, start, path in ((1, 3.0, None), (3, 1.0, "last")):
        module = Odd(start)
        callbacks = [ModelCheckpoint(tmp_path), *extra()]
        trainer = quiet_trainer(max_epochs=epochs, callbacks=callbacks, enable_checkpointing=True)
        trainer.fit(module, TinyData(2), TinyData(1), ckpt_path=path)
    assert trainer.global_step == 6
    for tensor in (module.expanded, module.frozen, module.inferred):
        assert (tensor == 3.0).all()


def test_a_tensor_in_several_places_stays_one_and_others_stay_themselves():
    module = Odd()
    module.inner = nn.Module()
    module.inner.register_buffer("same", module.expanded)
    kept = [module.overlapping, module.sparse, *module.layer.parameters()]
    make_writable(module)
    assert module.inner.same is module.expanded
    now = [module.overlapping, module.sparse, *module.layer.parameters()]
    assert list(map(id, now)) == list(map(id, kept))
    assert isinstance(module.frozen, nn.Parameter)
    assert not module.frozen.requires_grad
    assert not any(map(is_read_only, [*module.parameters(), *module.buffers()]))


def test_buffers_are_put_back_around_an_evaluation():
    module = Odd()
    with modes_kept(module, buffers=True):
        module.expanded = torch.zeros(4)
    assert (module.expanded == 1.0).all()
