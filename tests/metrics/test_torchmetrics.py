from __future__ import annotations

import io
import subprocess
import sys

import numpy as np
import pytest
import torch
from torch import nn
from torchmetrics import CatMetric, MeanMetric, Metric, MetricCollection, SumMetric
from torchmetrics.classification import BinaryAccuracy, BinaryPrecision, BinaryRecall

from trainkit.errors import StateError
from trainkit.metrics.torchmetrics import (
    find_metrics,
    is_metric,
    is_metric_collection,
    load_metric_states,
    merge_metric_states,
    metric_states,
    reset_metrics,
)


class Net(nn.Module):
    """Holds metrics of all kinds: single, with list states, nested, in a collection that shares states."""

    def __init__(self):
        super().__init__()
        self.accuracy = BinaryAccuracy()
        self.all = CatMetric()
        self.nested = nn.ModuleDict({"mean": MeanMetric()})
        self.collection = MetricCollection([BinaryPrecision(), BinaryRecall()])

    def see(self, seed):
        generator = torch.Generator().manual_seed(seed)
        scores, labels = torch.rand(8, generator=generator), torch.randint(2, (8,), generator=generator)
        self.accuracy(scores, labels)
        self.all.update(scores)
        self.nested["mean"].update(scores)
        self.collection.update(scores, labels)

    def values(self):
        own = [self.accuracy.compute(), self.all.compute(), self.nested["mean"].compute()]
        return [value.tolist() for value in own + list(self.collection.compute().values())]


def saved_and_loaded(state):
    file = io.BytesIO()
    torch.save(state, file)
    file.seek(0)
    return torch.load(file, weights_only=True)


def test_metrics_and_collections_are_told_from_other_values():
    values = [SumMetric(), MetricCollection([]), nn.Linear(1, 1), {}, 1.0]
    assert [is_metric(value) for value in values] == [True, False, False, False, False]
    assert [is_metric_collection(value) for value in values] == [False, True, False, False, False]


@pytest.mark.parametrize("batches_before", [0, 1, 3])
def test_metrics_continue_from_a_checkpoint_as_if_never_stopped(batches_before):
    whole, first, resumed = Net(), Net(), Net()
    for seed in range(5):
        whole.see(seed)
    for seed in range(batches_before):
        first.see(seed)
    load_metric_states(resumed, saved_and_loaded(metric_states(first)))
    for seed in range(batches_before, 5):
        resumed.see(seed)
    assert resumed.values() == whole.values()


def test_one_rank_goes_on_with_what_several_have_collected():
    whole, *ranks, alone = (Net() for _ in range(4))
    for seed in range(6):
        whole.see(seed)
        ranks[seed // 3].see(seed)
    load_metric_states(alone, saved_and_loaded(metric_states(ranks[0])))
    merge_metric_states(alone, saved_and_loaded(metric_states(ranks[1])))
    for value, expected in zip(alone.values(), whole.values(), strict=True):
        # What is concatenated is so in an order of its own, as between ranks.
        assert np.sort(np.atleast_1d(value)) == pytest.approx(np.sort(np.atleast_1d(expected)))


class Last(Metric):
    """Cannot be merged: it declares no reduction."""

    def __init__(self):
        super().__init__()
        self.add_state("last", torch.zeros(()), dist_reduce_fx=None)

    def update(self, value):
        self.last = value

    def compute(self):
        return self.last


def test_what_cannot_be_merged_is_refused():
    nets = [nn.ModuleDict({"last": Last()}) for _ in range(2)]
    for net in nets:
        net["last"].update(torch.ones(()))
    with pytest.raises(StateError, match="a Last cannot go on with what it held on several ranks"):
        merge_metric_states(nets[0], metric_states(nets[1]))


def test_what_a_metric_takes_in_later_does_not_change_a_saved_state():
    net = Net()
    net.see(0)
    states = metric_states(net)
    before = saved_and_loaded(states)
    net.see(1)
    assert str(states) == str(before)


def test_metrics_without_data_are_not_saved_and_gone_ones_not_missed():
    net = Net()
    assert metric_states(net) == {}
    net.see(0)
    load_metric_states(nn.Linear(1, 1), metric_states(net))


class Owner:
    def __init__(self):
        self.alone, self.by_name = SumMetric(), {"a": [SumMetric()]}


class Listing(nn.Module):
    """Holds metrics where torch does not see them, and one of them where it does."""

    def __init__(self):
        super().__init__()
        self.seen, self.inner = SumMetric(), nn.Linear(1, 1)
        self._hidden = [self.seen, (SumMetric(), "text"), MetricCollection([BinaryRecall()])]
        self._hidden.append(self._hidden)
        self.inner.own = [SumMetric()]
        self.data = [SumMetric()] * 2000


def test_metrics_in_plain_containers_and_of_plugins_are_found_once_by_their_first_place():
    net = Listing()
    found = find_metrics(net, [("net", net), ("Owner", Owner()), ("text", "no object with attributes")])
    assert list(found) == [
        "seen",
        "_hidden[1][0]",
        "_hidden[2].BinaryRecall",
        "inner.own[0]",
        "Owner:.alone",
        "Owner:.by_name.a[0]",
    ]
    assert find_metrics(nn.Linear(1, 1)) == {}


def test_metrics_in_plain_containers_and_of_plugins_continue_too():
    net, owner = Listing(), Owner()
    for metric in find_metrics(net, [("Owner", owner)]).values():
        metric.update(torch.ones(3), torch.ones(3)) if isinstance(metric, BinaryRecall) else metric.update(3.0)
    resumed, its_owner = Listing(), Owner()
    load_metric_states(resumed, saved_and_loaded(metric_states(net, [("Owner", owner)])), [("Owner", its_owner)])
    assert resumed._hidden[1][0].compute() == its_owner.by_name["a"][0].compute() == 3
    assert resumed._hidden[2].BinaryRecall.compute() == 1
    reset_metrics(resumed)
    assert not resumed._hidden[1][0].update_called


def test_collecting_metrics_does_not_import_torchmetrics():
    program = "import sys, trainkit.metrics.collector; sys.exit('torchmetrics' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0
