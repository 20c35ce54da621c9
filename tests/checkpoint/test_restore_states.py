from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
import torch
from torch import nn

from trainkit.checkpoint.restore_states import restore_optimizers, restore_schedulers
from trainkit.errors import CheckpointError


def optimizer(*sizes: int) -> torch.optim.Optimizer:
    groups = [{"params": [nn.Parameter(torch.ones(size))]} for size in sizes]
    return torch.optim.SGD(groups, lr=0.1, momentum=0.9)


def test_each_optimizer_gets_its_own_state() -> None:
    saved = [optimizer(2), optimizer(2)]
    for rate, one in zip((0.5, 0.25), saved, strict=True):
        one.param_groups[0]["lr"] = rate
    restored = [optimizer(2), optimizer(2)]
    restore_optimizers(restored, [one.state_dict() for one in saved], "a.ckpt")
    assert [one.param_groups[0]["lr"] for one in restored] == [0.5, 0.25]


def test_another_number_of_optimizers_is_refused_before_any_is_changed() -> None:
    one = optimizer(2)
    state = optimizer(2).state_dict()
    state["param_groups"][0]["lr"] = 9.0
    with pytest.raises(CheckpointError, match=r"(?s)a.ckpt holds 2 states .*_optimizers gave 1.*load_from_ch"):
        restore_optimizers([one], [state, state], "a.ckpt")
    assert one.param_groups[0]["lr"] == 0.1


def test_other_parameter_groups_are_refused_with_the_file_and_torchs_reason() -> None:
    with pytest.raises(CheckpointError, match="a.ckpt: the state of SGD does not fit: .*parameter groups") as caught:
        restore_optimizers([optimizer(2, 3)], [optimizer(2).state_dict()], "a.ckpt")
    assert isinstance(caught.value.__cause__, ValueError)


def test_another_number_of_schedulers_is_refused() -> None:
    with pytest.raises(CheckpointError, match=r"(?s)a.ckpt holds 1 states of schedulers.*gave 0.*take=\['scheduler'\]"):
        restore_schedulers([], [{}], "a.ckpt")


@pytest.mark.parametrize(
    "state",
    [
        {"last_epoch": 10**12},
        {"_step_count": 10**12},
        {"_schedulers": [{"last_epoch": 3}, {"last_epoch": 10**12}]},
        {"milestones": Counter({2: 10**12})},
    ],
)
def test_a_scheduler_that_was_stepped_more_often_than_any_is_refused(state: dict[str, Any]) -> None:
    with pytest.raises(
        CheckpointError, match=r"a.ckpt is whole, and yet lr_schedulers\[0\].*stepped 1000000000000 times"
    ):
        restore_schedulers([object()], [state], "a.ckpt")


def stepped(parameter: nn.Parameter, **options: Any) -> torch.optim.Optimizer:
    optimizer = torch.optim.Adam([parameter], **options)
    parameter.grad = torch.arange(float(parameter.numel())).to(parameter.dtype).reshape(parameter.shape)
    optimizer.step()
    return optimizer


def test_what_is_in_another_order_in_memory_is_put_in_that_of_the_parameter() -> None:
    own = torch.ones(2, 3, 4, 5)
    saved = stepped(nn.Parameter(own.clone())).state_dict()
    # A fused step goes through both in the order of memory.
    parameter = nn.Parameter(own.to(memory_format=torch.channels_last))
    optimizer = torch.optim.Adam([parameter], fused=True)
    restore_optimizers([optimizer], [saved], "a.ckpt")
    kept = optimizer.state[parameter]["exp_avg"]
    assert kept.stride() == parameter.stride()
    assert torch.equal(kept, saved["state"][0]["exp_avg"])


@pytest.mark.parametrize("keep_dtypes", [True, False])
def test_states_of_parameters_have_the_dtype_of_the_parameters(keep_dtypes: bool) -> None:
    for saved_in, now in ((torch.complex128, torch.complex64), (torch.float64, torch.float32)):
        saved = stepped(nn.Parameter(torch.ones(3, dtype=saved_in))).state_dict()
        parameter = nn.Parameter(torch.ones(3, dtype=now))
        optimizer = torch.optim.Adam([parameter])
        restore_optimizers([optimizer], [saved], "a.ckpt", keep_dtypes=keep_dtypes)
        assert optimizer.state[parameter]["exp_avg"].dtype == now


def test_an_option_that_torch_would_put_in_is_missed_where_the_code_has_another() -> None:
    parameter = nn.Parameter(torch.ones(3))
    for maximize in (True, False):
        saved = stepped(parameter, maximize=maximize).state_dict()
        del saved["param_groups"][0]["maximize"], saved["param_groups"][0]["foreach"]
        optimizer = torch.optim.Adam([parameter], maximize=maximize, foreach=True)
        if maximize:
            with pytest.raises(CheckpointError, match=r"there is no maximize in optimizer_states\[0\]"):
                restore_optimizers([optimizer], [saved], "a.ckpt")
        else:
            restore_optimizers([optimizer], [saved], "a.ckpt")


def test_an_optimizer_may_save_in_a_form_of_its_own() -> None:
    class Own(torch.optim.SGD):
        def state_dict(self) -> dict[str, Any]:
            return {"mine": 1, "param_groups": 3}

        def load_state_dict(self, state: dict[str, Any]) -> None:
            self.mine = state["mine"]

    optimizer = Own(nn.Linear(1, 1).parameters(), lr=0.1)
    restore_optimizers([optimizer], [{"mine": 7, "param_groups": 3}], "a.ckpt", keep_dtypes=True)
    assert optimizer.mine == 7
