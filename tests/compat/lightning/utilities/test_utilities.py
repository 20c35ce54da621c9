from __future__ import annotations

import random

import numpy as np
import pytest
import torch
from torch import nn

import trainkit
import trainkit.compat.lightning as pl
from trainkit.compat.lightning.utilities import exceptions, memory, model_helpers, model_summary, types
from trainkit.module.optimizers import SchedulerConfig
from trainkit.testing import TinyData, TinyModule, quiet_trainer


def test_a_seed_may_be_left_out() -> None:
    assert pl.seed_everything(workers=True) == 0
    assert pl.seed_everything(42, verbose=False) == 42
    drawn = torch.rand(1), np.random.rand(), random.random()
    pl.seed_everything(42)
    assert drawn == (torch.rand(1), np.random.rand(), random.random())


def test_rank_zero_only_tells_the_rank(monkeypatch: pytest.MonkeyPatch) -> None:
    tell = pl.utilities.rank_zero_only(lambda: "told")
    assert (pl.utilities.rank_zero_only.rank, tell()) == (0, "told")
    monkeypatch.setenv("RANK", "3")
    monkeypatch.setenv("WORLD_SIZE", "4")
    assert (pl.utilities.rank_zero_only.rank, tell()) == (3, None)


def test_every_mistake_in_the_setup_is_a_misconfiguration() -> None:
    with pytest.raises(exceptions.MisconfigurationException):
        pl.Trainer(max_epochs=-2)
    with pytest.raises(exceptions.MisconfigurationException):
        quiet_trainer().fit(pl.LightningModule(), TinyData(1))


@pytest.mark.parametrize(("norm_type", "total"), [(2, 5.0), ("inf", 4.0), (1, 7.0)])
def test_norms_of_gradients_are_those_of_all_parameters_together(norm_type: float | str, total: float) -> None:
    module = nn.Linear(2, 1, bias=True)
    module.weight.grad, module.bias.grad = torch.tensor([[3.0, 0.0]]), torch.tensor([-4.0])
    norms = pl.utilities.grad_norm(module, norm_type)
    order = float(norm_type)
    assert {name: norm.item() for name, norm in norms.items()} == {
        f"grad_{order}_norm/weight": 3.0,
        f"grad_{order}_norm/bias": 4.0,
        f"grad_{order}_norm_total": pytest.approx(total),
    }


def test_a_norm_needs_gradients_and_an_order() -> None:
    assert pl.utilities.grad_norm(nn.Linear(2, 1), 2) == {}
    with pytest.raises(trainkit.errors.ConfigError, match="norm_type=0"):
        pl.utilities.grad_norm(nn.Linear(2, 1), 0)


def test_a_summary_has_lightnings_names() -> None:
    summary = model_summary.summarize(TinyModule())
    assert (summary.total_parameters, summary.trainable_parameters) == (10, 10)
    assert summary.layer_names == ["layer"] and summary.layer_types == ["Linear"] and summary.param_nums == [10]
    assert summary.in_sizes == summary.out_sizes == [None]
    assert summary.model_size == pytest.approx(40e-6)
    assert "Linear" in str(summary)


def test_overrides_are_found() -> None:
    assert model_helpers.is_overridden("training_step", TinyModule(), pl.LightningModule)
    assert not model_helpers.is_overridden("test_step", pl.LightningModule())

    class Mine(pl.Callback):
        def on_train_start(self, trainer: object, pl_module: object) -> None: ...

    assert model_helpers.is_overridden("on_train_start", Mine())
    assert not model_helpers.is_overridden("on_train_end", Mine())


def test_running_out_of_memory_is_told_from_other_errors() -> None:
    assert memory.is_oom_error(torch.OutOfMemoryError("CUDA out of memory"))
    assert memory.is_oom_error(RuntimeError("DefaultCPUAllocator: can't allocate memory"))
    assert not memory.is_oom_error(RuntimeError("shapes do not match"))
    memory.garbage_collection_cuda()


def test_a_scheduler_may_come_in_lightnings_class() -> None:
    assert types.LRSchedulerConfig is SchedulerConfig


def test_data_is_moved_in_any_nesting() -> None:
    batch = {"x": [torch.zeros(1)], "name": "text"}
    moved = pl.utilities.move_data_to_device(batch, torch.device("meta"))
    assert moved["x"][0].device.type == "meta" and moved["name"] == "text"
