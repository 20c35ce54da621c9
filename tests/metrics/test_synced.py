"""The states of torchmetrics objects of all ranks become one, and each rank keeps its own afterwards."""

from __future__ import annotations

import warnings

import pytest
import torch
import torchmetrics
from torch import distributed as dist
from torchmetrics.classification import BinaryAccuracy, BinaryAUROC

from trainkit.metrics.collector import MetricCollector
from trainkit.metrics.synced import alone, states_to_send, synced
from trainkit.types import Phase

SCORES = torch.tensor([0.1, 0.9, 0.4, 0.6, 0.8, 0.2])
LABELS = torch.tensor([0, 1, 1, 0, 1, 0])


@pytest.fixture(autouse=True)
def several(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let torchmetrics find that there are several ranks; an exchange of its own would fail."""
    monkeypatch.setattr(dist, "is_available", lambda: True)
    monkeypatch.setattr(dist, "is_initialized", lambda: True)


def parts(make, *cuts):
    """Return one object for each part of the samples."""
    made = []
    for scores, labels in zip(SCORES.tensor_split(cuts), LABELS.tensor_split(cuts), strict=True):
        metric = make()
        # In two updates, so that what is concatenated is a list of several.
        for index in (0, 1):
            if len(scores[index::2]):
                metric.update(scores[index::2], labels[index::2])
        made.append(metric)
    return made


@pytest.mark.parametrize(
    "make", [BinaryAccuracy, BinaryAUROC, torchmetrics.MeanSquaredError], ids=lambda make: make.__name__
)
@pytest.mark.parametrize("cuts", [(2,), (5,), (0,), (6,), (2, 2)], ids=str)
def test_the_value_is_that_of_all_samples_also_where_a_rank_has_none(make, cuts):
    whole = make()
    whole.update(SCORES, LABELS)
    with alone(whole):
        expected = whole.compute()
    ranks = parts(make, *cuts)
    sent = [states_to_send(metric) for metric in ranks]
    for metric, own in zip(ranks, sent, strict=True):
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # of compute() ahead of update()
            with synced(metric, sent):
                assert metric.compute() == expected
        after = states_to_send(metric)
        assert after[""][0] == own[""][0]
        torch.testing.assert_close(after[""][1], own[""][1])


def test_a_mean_of_states_passes_over_a_rank_without_any():
    class Level(torchmetrics.Metric):
        def __init__(self):
            super().__init__()
            self.add_state("level", torch.tensor(0.0), dist_reduce_fx="mean")

        def update(self, level):
            self.level = level

        def compute(self):
            return self.level

    ranks = [Level(), Level(), Level()]
    ranks[0].update(torch.tensor(2.0))
    ranks[1].update(torch.tensor(4.0))
    with synced(ranks[2], [states_to_send(metric) for metric in ranks]):
        assert ranks[2].compute() == 3.0


def test_alone_an_object_goes_by_what_it_has():
    first, _ = parts(BinaryAccuracy, 2)
    with alone(first):
        assert first.compute() == 1.0
    assert first._to_sync


def test_an_object_with_a_way_of_its_own_is_left_to_it():
    def gather(state, group):
        return [state, state]

    metric = torchmetrics.SumMetric(dist_sync_fn=gather)
    metric.update(3.0)
    assert states_to_send(metric) == {}
    with synced(metric, [{}, {}]):
        assert metric.compute() == 6.0


def test_a_rank_without_a_batch_finds_the_object_in_the_module(on_ranks):
    def see(rank):
        module = torch.nn.Module()
        module.area = BinaryAUROC()
        collector = MetricCollector(rank)
        collector.reset(module)
        collector.begin_phase(Phase.VALIDATE)
        collector.begin_batches().batch = None
        if rank.rank == 0:
            module.area.update(SCORES, LABELS)
            collector.log("area", module.area)
        collector.end_batches()
        return collector.callback_metrics["area"].item(), rank.collectives

    whole = BinaryAUROC()
    whole.update(SCORES, LABELS)
    with alone(whole):
        expected = whole.compute().item()
    assert on_ranks(2, see) == [(pytest.approx(expected), ["gather"])] * 2
