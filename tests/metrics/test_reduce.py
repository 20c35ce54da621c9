from __future__ import annotations

import pytest
import torch
import torchmetrics

from trainkit.errors import MetricError
from trainkit.metrics.collector import MetricCollector
from trainkit.types import Phase

from .conftest import numbers


def validate(rank, log, *, batches=2, num_dataloaders=1):
    """Run a validation in which ``log(collector, rank, batch_idx)`` logs; return the collector."""
    collector = MetricCollector(rank)
    collector.begin_phase(Phase.VALIDATE, num_dataloaders)
    for batch_idx in range(batches):
        collector.begin_batches().batch = torch.zeros(1 + rank.rank)
        log(collector, rank.rank, batch_idx)
    collector.end_batches()
    return collector


def metrics(collector):
    return numbers(collector.callback_metrics)


def test_epoch_mean_is_that_of_all_samples_of_all_ranks(on_ranks):
    def log(collector, rank, batch_idx):
        collector.log("x", torch.tensor(10.0 * rank + batch_idx))

    # Rank 0: 0, 1 with one sample each; rank 1: 10, 11 with two each.
    assert on_ranks(2, lambda rank: metrics(validate(rank, log))) == [{"x": pytest.approx(43 / 6)}] * 2


def test_numbers_reduce_as_tensors_do(on_ranks):
    def log(collector, rank, batch_idx):
        value = 10.0 * rank + batch_idx
        for reduce_fx in ("mean", "sum", "min", "max"):
            collector.log(reduce_fx, value, reduce_fx=reduce_fx)

    expected = {"mean": pytest.approx(43 / 6), "sum": 22.0, "min": 0.0, "max": 11.0}
    assert on_ranks(2, lambda rank: metrics(validate(rank, log))) == [expected] * 2


@pytest.mark.parametrize("options", [{"sync_dist": False}, {"rank_zero_only": True}])
def test_value_stays_local_on_request(on_ranks, options):
    def log(collector, rank, batch_idx):
        collector.log("x", float(rank), **options)

    assert on_ranks(2, lambda rank: metrics(validate(rank, log))) == [{"x": 0.0}, {"x": 1.0}]


def test_value_logged_on_rank_0_alone_needs_nobody_else(on_ranks):
    def log(collector, rank, batch_idx):
        if rank == 0:
            collector.log("x", 3.0, rank_zero_only=True)

    assert on_ranks(2, lambda rank: metrics(validate(rank, log))) == [{"x": 3.0}, {}]


def test_rank_without_a_batch_gets_the_values_of_the_others(on_ranks):
    def log(collector, rank, batch_idx):
        collector.log("b", torch.tensor(2.0, dtype=torch.float64))
        collector.log("a", 1.0, prog_bar=True)

    def see(rank):
        collector = validate(rank, log, batches=0 if rank.rank == 0 else 2)
        bar, dtype = numbers(collector.progress_bar_metrics), collector.callback_metrics["b"].dtype
        return metrics(collector), bar, collector.results(), dtype

    seen = ({"b": 2.0, "a": 1.0}, {"a": 1.0}, [{"b": 2.0, "a": 1.0}], torch.float64)
    assert on_ranks(2, see) == [seen] * 2


def test_order_of_logging_may_differ_between_ranks(on_ranks):
    def log(collector, rank, batch_idx):
        for name in ("a", "b") if rank == 0 else ("b", "a"):
            collector.log(name, {"a": 1.0, "b": 2.0}[name])

    assert on_ranks(2, lambda rank: metrics(validate(rank, log))) == [{"a": 1.0, "b": 2.0}] * 2


def test_loaders_are_reduced_one_by_one(on_ranks):
    def see(rank):
        collector = MetricCollector(rank)
        collector.begin_phase(Phase.VALIDATE, 2)
        for dataloader_idx in range(2):
            collector.begin_batches(dataloader_idx).batch = torch.zeros(1)
            collector.log("x", float(dataloader_idx * 10 + rank.rank))
        collector.end_batches()
        return collector.results()

    assert on_ranks(2, see) == [[{"x/dataloader_idx_0": 0.5}, {"x/dataloader_idx_1": 10.5}]] * 2


def test_name_logged_in_different_ways_is_an_error_on_every_rank(on_ranks):
    def log(collector, rank, batch_idx):
        if rank < 2:
            collector.log("x", 1.0, prog_bar=rank == 0)

    for error in on_ranks(3, lambda rank: validate(rank, log)):
        assert isinstance(error, MetricError)
        assert "prog_bar=" in str(error)


def test_metric_that_one_rank_lacks_is_an_error_on_every_rank_instead_of_a_wait(on_ranks):
    def log(collector, rank, batch_idx):
        if rank == 1:
            collector.log("x", torchmetrics.SumMetric())

    for error in on_ranks(2, lambda rank: validate(rank, log)):
        assert isinstance(error, MetricError)
        assert "'x' was logged on some ranks, but not on rank 0" in str(error)


def test_hook_values_are_local_until_they_are_reduced_at_a_fixed_point(on_ranks):
    def see(rank):
        collector = validate(rank, lambda *_: None)
        collector.log("x", float(rank.rank))
        before = metrics(collector), list(rank.collectives)
        collector.reduce_epoch_hook_values()
        collector.reduce_epoch_hook_values()
        return before, metrics(collector), collector.epoch_row()

    for rank, (before, after, row) in enumerate(on_ranks(2, see)):
        assert before == ({"x": float(rank)}, ["gather"])
        assert after == row == {"x": 0.5}


def test_reading_is_never_collective(on_ranks):
    def see(rank):
        collector = validate(rank, lambda collector, rank, batch_idx: collector.log("x", 1.0))
        settled = list(rank.collectives)
        if rank.rank == 0:
            collector.epoch_row(), collector.step_row(), collector.results(), collector.callback_metrics
        return settled == rank.collectives

    assert on_ranks(2, see) == [True, True]


@pytest.mark.parametrize(("sync_dist", "expected"), [(None, [0.0, 1.0]), (True, [0.5, 0.5])])
def test_step_values_are_reduced_only_on_request(on_ranks, sync_dist, expected):
    def see(rank):
        collector = MetricCollector(rank)
        collector.begin_phase(Phase.TRAIN)
        collector.begin_batches().batch = None
        collector.log("x", rank.rank, sync_dist=sync_dist)
        return collector.step_row()["x"]

    assert on_ranks(2, see) == expected


@pytest.mark.parametrize("as_value", [int, torch.tensor])
def test_whole_numbers_stay_whole_over_ranks(on_ranks, as_value):
    def see(rank):
        collector = MetricCollector(rank)
        collector.begin_phase(Phase.TRAIN)
        collector.begin_batches().batch = torch.zeros(1)
        collector.log("x", as_value(67_128_463 + rank.rank), on_epoch=True, sync_dist=True, reduce_fx="sum")
        collector.end_batches()
        return metrics(collector)

    total = 2 * 67_128_463 + 1
    assert on_ranks(2, see) == [{"x": total, "x_step": total, "x_epoch": total}] * 2


def test_epoch_of_reduced_step_values_is_still_exact(on_ranks):
    def see(rank):
        collector = MetricCollector(rank)
        collector.begin_phase(Phase.TRAIN)
        collector.begin_batches().batch = torch.zeros(1 + 2 * rank.rank)
        collector.log("x", float(rank.rank), on_epoch=True, sync_dist=True)
        collector.end_batches()
        return metrics(collector)

    assert on_ranks(2, see) == [{"x": 0.75, "x_step": 0.5, "x_epoch": 0.75}] * 2
