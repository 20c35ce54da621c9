"""A collector on one rank, and ranks that are threads of this process."""

from __future__ import annotations

import copy
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch

from trainkit.metrics.collector import MetricCollector
from trainkit.types import Phase


class OneRank:
    device = torch.device("cpu")
    world_size = 1

    def all_reduce(self, tensor, op="sum"):
        return tensor

    def all_gather_object(self, value):
        return [value]


class ThreadRank:
    """One of several ranks that meet at a barrier. Counts its collectives."""

    device = torch.device("cpu")

    def __init__(self, rank, board, barrier):
        self.rank = rank
        self.world_size = len(board)
        self.collectives = []
        self._board = board
        self._barrier = barrier

    def all_gather_object(self, value):
        self.collectives.append("gather")
        return self._meet(value)

    def all_reduce(self, tensor, op="sum"):
        self.collectives.append(op)
        stacked = torch.stack(self._meet(tensor))
        reduce = {"sum": torch.sum, "mean": torch.mean, "min": torch.amin, "max": torch.amax}[op]
        return reduce(stacked, dim=0)

    def _meet(self, value):
        self._board[self.rank] = copy.deepcopy(value)
        self._barrier.wait()
        everything = list(self._board)
        self._barrier.wait()
        return everything


def numbers(table):
    """The tensors of ``table`` as numbers."""
    return {name: value.item() for name, value in table.items()}


@pytest.fixture
def on_ranks():
    """Run ``function(rank)`` on several ranks at once; return what each returned, or raised."""

    def run(world_size, function):
        barrier = threading.Barrier(world_size, timeout=20)
        ranks = [ThreadRank(rank, [None] * world_size, barrier) for rank in range(world_size)]
        for rank in ranks:
            rank._board = ranks[0]._board

        def call(rank):
            try:
                return function(rank)
            except Exception as error:
                return error

        with ThreadPoolExecutor(world_size) as threads:
            return list(threads.map(call, ranks))

    return run


@pytest.fixture
def collector():
    return MetricCollector(OneRank())


@pytest.fixture
def training(collector):
    """A collector within the first batch of a training epoch: four samples."""
    collector.begin_phase(Phase.TRAIN)
    collector.begin_batches().batch = torch.zeros(4, 2)
    return collector


@pytest.fixture
def validating(collector):
    """A collector within the first batch of a validation: four samples."""
    collector.begin_phase(Phase.VALIDATE)
    collector.begin_batches().batch = torch.zeros(4, 2)
    return collector
