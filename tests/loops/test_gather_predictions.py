"""On several processes it is tried by tests/semantics/test_equal_ranks.py."""

from __future__ import annotations

from types import SimpleNamespace

import torch
from torch.utils.data import DataLoader

from trainkit.data.loaders import LimitedLoader
from trainkit.loops.gather_predictions import gather_predictions
from trainkit.strategies.single import SingleDevice


def test_one_process_keeps_its_own():
    own = [["first", "second"]]
    assert gather_predictions(SingleDevice("cpu"), own, [])[0] is own[0]


def test_batches_of_ranks_come_in_turns_and_a_rank_may_have_one_less():
    gathered = iter([[["a", "c", "e"], ["b", "d"]], [["f"], []]])
    strategy = SimpleNamespace(is_distributed=True, one_of_each_data=list, all_gather_object=lambda own: next(gathered))
    loaders = [LimitedLoader(DataLoader(range(size))) for size in (3, 1)]
    assert gather_predictions(strategy, [["a", "c", "e"], ["f"]], loaders) == [["a", "b", "c", "d", "e"], ["f"]]


def test_what_each_rank_has_predicted_as_a_whole_is_not_repeated():
    strategy = SimpleNamespace(is_distributed=True, one_of_each_data=list, all_gather_object=lambda own: [own, own])
    batches = [torch.zeros(1), torch.ones(1)]
    assert gather_predictions(strategy, [["a", "b"]], [LimitedLoader(batches)]) == [["a", "b"]]


def test_tensors_are_sent_without_their_graphs():
    sent = []
    strategy = SimpleNamespace(
        is_distributed=True, one_of_each_data=list, all_gather_object=lambda own: sent.append(own) or [own, []]
    )
    prediction = {"y": torch.ones(1, requires_grad=True) * 2}
    gather_predictions(strategy, [[prediction]], [LimitedLoader(DataLoader(range(1)))])
    assert not sent[0][0]["y"].requires_grad
