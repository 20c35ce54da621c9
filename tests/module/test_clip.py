"""Clipping by the norm of all gradients."""

from __future__ import annotations

import torch
from torch import nn

from trainkit.module.clip import clip_norm


def test_the_norm_of_all_together_is_the_limit():
    parameters = [nn.Parameter(torch.zeros(3)), nn.Parameter(torch.zeros(2)), nn.Parameter(torch.zeros(1))]
    parameters[0].grad, parameters[1].grad = torch.full((3,), 3.0), torch.full((2,), 4.0)
    clip_norm(parameters, 1.0)
    assert torch.cat([parameters[0].grad, parameters[1].grad]).norm().sub(1).abs() < 1e-5
