"""When gradients of manual optimization are averaged. With ranks it is tried by tests/semantics/test_equal_ranks.py."""

from __future__ import annotations

import gc

import torch

from trainkit.loops.exchange import GradientExchange
from trainkit.strategies.single import SingleDevice
from trainkit.testing import TinyModule


class Exchanging(SingleDevice):
    def __init__(self):
        super().__init__("cpu")
        self.exchanges = 0

    def sync_gradients(self, module):
        self.exchanges += 1


def parts():
    strategy, module = Exchanging(), TinyModule()
    return strategy, module, torch.optim.SGD(module.parameters()), GradientExchange(strategy)


def backward(module):
    module(torch.ones(1, 4)).sum().backward()


def test_what_was_averaged_behind_backward_is_not_averaged_again_whatever_is_done_to_it():
    strategy, module, optimizer, exchange = parts()
    backward(module)
    exchange.after_backward(module)
    torch.nn.utils.clip_grad_norm_(module.parameters(), 0.1)
    exchange.before_update(module, optimizer)
    assert strategy.exchanges == 1


def test_what_came_otherwise_is_averaged_ahead_of_the_update():
    strategy, module, optimizer, exchange = parts()
    for _ in range(3):
        optimizer.zero_grad()
        gc.collect()
        backward(module)
        exchange.before_update(module, optimizer)
    assert strategy.exchanges == 3
    module.layer.bias.grad = torch.ones_like(module.layer.bias)
    exchange.before_update(module, optimizer)
    assert strategy.exchanges == 4


def test_gradients_that_are_held_back_are_averaged_with_those_of_the_next_backward_or_ahead_of_the_update():
    strategy, module, optimizer, exchange = parts()
    backward(module)
    exchange.after_backward(module)
    strategy.holds_back_gradients = True
    backward(module)
    exchange.after_backward(module)
    assert strategy.exchanges == 1
    exchange.before_update(module, optimizer)
    assert strategy.exchanges == 2


def test_without_ranks_nothing_is_noted_so_that_gradients_are_let_go():
    module = TinyModule()
    exchange = GradientExchange(SingleDevice("cpu"))
    backward(module)
    exchange.after_backward(module)
    exchange.before_update(module, torch.optim.SGD(module.parameters()))
    assert not exchange._averaged
