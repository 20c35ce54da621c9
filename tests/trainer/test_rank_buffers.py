"""Buffers of ranks in a checkpoint. On several processes it is tried by tests/semantics/test_equal_ranks.py."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch

from trainkit.errors import StateError
from trainkit.strategies.single import SingleDevice
from trainkit.trainer.rank_buffers import own_buffers, restore_buffers


def module(mean=0.0):
    made = torch.nn.BatchNorm1d(2)
    made.running_mean.fill_(mean)
    made.register_buffer("passing", torch.ones(1), persistent=False)
    return made


def saved_beside(first, own):
    """What the rank of ``own`` saves where ``first`` is the module of rank 0."""
    sums = []
    own_buffers(SimpleNamespace(is_distributed=True, broadcast_object=lambda own: sums.append(own) or own), first)
    return own_buffers(SimpleNamespace(is_distributed=True, broadcast_object=lambda own: sums[0]), own)


def test_only_what_differs_from_rank_0_is_saved_and_comes_back():
    saved = saved_beside(module(), module(2.0))
    assert list(saved) == ["running_mean"]
    other = module()
    restore_buffers(other, saved)
    assert other.running_mean.tolist() == [2.0, 2.0]
    assert saved_beside(module(), module()) == {}


def test_one_process_saves_none():
    assert own_buffers(SingleDevice("cpu"), module()) == {}


def test_a_buffer_of_another_shape_is_refused_and_one_that_is_gone_is_left_out():
    restore_buffers(module(), {"gone": torch.ones(1)})
    with pytest.raises(StateError, match=r"buffer 'running_mean' has the shape \(3,\), and \(2,\)"):
        restore_buffers(module(), {"running_mean": torch.ones(3)})
