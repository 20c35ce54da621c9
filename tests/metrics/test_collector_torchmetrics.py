from __future__ import annotations

import pytest
import torch
import torchmetrics

from trainkit.errors import MetricError


def test_metric_gives_the_batch_then_the_whole_and_is_reset(training):
    accuracy = torchmetrics.MeanMetric()
    for values in (torch.tensor([1.0]), torch.tensor([4.0, 4.0])):
        accuracy(values)
        training.log("x", accuracy, on_epoch=True)
    training.end_batches()
    assert (training.step_row(), training.epoch_row()) == ({"x_step": 4.0}, {"x_epoch": 3.0})
    training.end_phase()
    assert not accuracy.update_called


def test_metric_that_was_only_updated_has_no_step_value(training):
    metric = torchmetrics.SumMetric()
    metric.update(2.0)
    training.log("x", metric, on_epoch=True)
    assert training.step_row() == {}
    training.end_batches()
    assert training.epoch_row() == {"x_epoch": 2.0}


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({}, r"self.log\('x', SumMetric\) goes nowhere.*Call the metric.*on_step=False, on_epoch=True"),
        ({"on_step": True}, "goes nowhere"),
        ({"on_step": True, "on_epoch": True}, "there is no 'x_step'.*Call the metric.*or leave out on_step"),
    ],
)
def test_a_value_of_the_batch_that_was_not_computed_is_told_once(training, options, told):
    metric = torchmetrics.SumMetric()
    with pytest.warns(UserWarning, match=told) as warned:
        for value in (1.0, 2.0):
            metric.update(value)
            training.log("x", metric, **options)
    assert len(warned) == 1


@pytest.mark.parametrize(("options", "calls"), [({"on_epoch": True}, "update"), ({"on_step": True}, "forward")])
def test_a_metric_that_has_what_it_is_logged_for_warns_of_nothing(training, recwarn, options, calls):
    metric = torchmetrics.SumMetric()
    getattr(metric, calls)(1.0)
    training.log("x", metric, **options)
    assert not list(recwarn)


def test_metric_in_an_epoch_hook_is_computed(validating):
    metric = torchmetrics.SumMetric()
    metric.update(2.0)
    validating.end_batches()
    validating.log("x", metric)
    assert validating.results() == [{"x": 2.0}]


def test_metric_that_goes_nowhere_is_not_computed(validating):
    metric = torchmetrics.SumMetric()
    metric.update(2.0)
    validating.end_batches()
    with pytest.warns(UserWarning, match="goes nowhere"):
        validating.log("x", metric, on_epoch=False)
    assert validating.callback_metrics == {}


def test_metric_without_data_warns_as_torchmetrics_does(validating):
    validating.log("x", torchmetrics.MeanMetric())
    with pytest.warns(UserWarning, match="before the ``update`` method"):
        validating.end_batches()


def test_members_of_a_collection_are_metrics(validating):
    members = {"a": torchmetrics.SumMetric(), "b": torchmetrics.MaxMetric()}
    collection = torchmetrics.MetricCollection(members, prefix="val/")
    for value in (1.0, 2.0):
        collection.update(value)
        for name, metric in collection.items():
            validating.log(name, metric)
    validating.end_batches()
    assert validating.results() == [{"val/a": 3.0, "val/b": 2.0}]


@pytest.mark.parametrize("first_is_metric", [True, False])
def test_name_is_of_a_number_or_of_a_metric(training, first_is_metric):
    metric = torchmetrics.SumMetric()
    values = [metric, torch.tensor(1.0)] if first_is_metric else [1.0, metric]
    training.log("x", values[0], on_epoch=True)
    with pytest.raises(MetricError, match=r"another name|two names"):
        training.log("x", values[1], on_epoch=True)


def test_metric_used_in_inference_mode_can_be_used_outside_it_after_its_phase(validating):
    metric = torchmetrics.SumMetric()
    with torch.inference_mode():
        metric.update(1.0)
        validating.log("x", metric)
        validating.end_batches()
        validating.end_phase()
    metric.sum_value += 1.0
    assert not validating.callback_metrics["x"].is_inference()
