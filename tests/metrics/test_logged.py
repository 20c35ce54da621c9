"""What was logged is read, and saved with a checkpoint in the middle of a phase."""

from __future__ import annotations

import io

import pytest
import torch
import torchmetrics
from torch import nn

from trainkit.metrics.collector import MetricCollector
from trainkit.types import Phase

from .conftest import OneRank, numbers


def through_a_file(state):
    file = io.BytesIO()
    torch.save(state, file)
    file.seek(0)
    return torch.load(file, weights_only=True)


class Module(nn.Module):
    def __init__(self):
        super().__init__()
        self.metric = torchmetrics.MeanMetric()


def train(collector, module, batches):
    for k in batches:
        collector.begin_batches().batch = torch.zeros(k % 4 + 1)
        value = torch.tensor(0.1 * k)
        module.metric.update(value)
        collector.log("step", value)
        collector.log("both", value, on_epoch=True)
        for reduce_fx in ("sum", "min", "max"):
            collector.log(reduce_fx, value, reduce_fx=reduce_fx, on_step=False, on_epoch=True)
        collector.log("number", 0.1 * k, on_step=False, on_epoch=True)
        collector.log("metric", module.metric, on_step=False, on_epoch=True)


def end_epoch(collector):
    collector.end_batches()
    collector.log("hook", 1.0)
    collector.reduce_epoch_hook_values()
    return collector.step_row(), collector.epoch_row(), numbers(collector.callback_metrics)


@pytest.fixture
def unbroken():
    """What an epoch of ten batches comes to."""
    collector, module = MetricCollector(OneRank()), Module()
    collector.begin_phase(Phase.TRAIN)
    train(collector, module, range(10))
    return end_epoch(collector)


@pytest.mark.parametrize("stop_after", range(11))
def test_epoch_continues_from_a_checkpoint_bit_for_bit(unbroken, stop_after):
    first, module = MetricCollector(OneRank()), Module()
    first.begin_phase(Phase.TRAIN)
    train(first, module, range(stop_after))
    state = through_a_file(first.state_dict(module))
    train(first, module, range(stop_after, 10))
    assert end_epoch(first) == unbroken  # saving changed nothing

    resumed, module = MetricCollector(OneRank()), Module()
    resumed.load_state_dict(state, module)
    resumed.begin_phase(Phase.TRAIN, resume=True)
    train(resumed, module, range(stop_after, 10))
    assert end_epoch(resumed) == unbroken


def test_checkpoint_of_an_epoch_that_is_ending_lets_its_hooks_log_again(unbroken):
    first, module = MetricCollector(OneRank()), Module()
    first.begin_phase(Phase.TRAIN)
    train(first, module, range(10))
    first.end_batches()
    first.log("hook", 5.0)
    state = through_a_file(first.state_dict(module))

    resumed, module = MetricCollector(OneRank()), Module()
    resumed.load_state_dict(state, module)
    resumed.begin_phase(Phase.TRAIN, resume=True)
    assert end_epoch(resumed) == unbroken


def test_epoch_left_in_the_middle_continues_in_the_same_process(unbroken):
    collector, module = MetricCollector(OneRank()), Module()
    collector.begin_phase(Phase.TRAIN)
    train(collector, module, range(4))
    collector.end_batches()
    collector.log("hook", 5.0)
    collector.end_phase(resumable=True)
    collector.begin_phase(Phase.TRAIN, resume=True)
    train(collector, module, range(4, 10))
    assert end_epoch(collector) == unbroken


def test_validation_continues_within_its_epoch():
    def validate(collector, values):
        for value in values:
            collector.begin_batches().batch = torch.zeros(2)
            collector.log("val", value)

    first, module = MetricCollector(OneRank()), Module()
    first.begin_phase(Phase.TRAIN)
    first.begin_batches().batch = torch.zeros(1)
    first.log("x", 1.0, on_epoch=True)
    first.begin_phase(Phase.VALIDATE)
    validate(first, [1.0])
    state = through_a_file(first.state_dict(module))

    resumed = MetricCollector(OneRank())
    resumed.load_state_dict(state, module)
    resumed.begin_phase(Phase.TRAIN, resume=True)
    resumed.begin_phase(Phase.VALIDATE, resume=True)
    validate(resumed, [3.0])
    resumed.end_batches()
    assert resumed.results() == [{"val": 2.0}]
    resumed.end_phase()
    resumed.end_batches()
    assert resumed.epoch_row() == {"x_epoch": 1.0}


def test_new_phase_takes_nothing_from_a_checkpoint_of_its_middle():
    first, module = MetricCollector(OneRank()), Module()
    first.begin_phase(Phase.TRAIN)
    train(first, module, range(3))
    resumed = MetricCollector(OneRank())
    resumed.load_state_dict(first.state_dict(module), Module())
    resumed.begin_phase(Phase.TRAIN)
    resumed.end_batches()
    assert resumed.epoch_row() == {}
    assert numbers(resumed.callback_metrics) == numbers(first.callback_metrics)


def test_options_in_the_code_win_over_those_in_a_checkpoint():
    first, module = MetricCollector(OneRank()), Module()
    first.begin_phase(Phase.TRAIN)
    first.begin_batches().batch = torch.zeros(1)
    first.log("x", 1.0, on_epoch=True)
    resumed = MetricCollector(OneRank())
    resumed.load_state_dict(first.state_dict(module), module)
    resumed.begin_phase(Phase.TRAIN, resume=True)
    resumed.begin_batches().batch = torch.zeros(1)
    resumed.log("x", 3.0, on_epoch=True, prog_bar=True)
    resumed.end_batches()
    assert numbers(resumed.progress_bar_metrics) == {"x_step": 3.0, "x_epoch": 2.0}


def test_reading_changes_nothing(training):
    training.log("x", torch.tensor(1.0), on_epoch=True)
    first = numbers(training.callback_metrics)
    training.callback_metrics["x"] = torch.tensor(5.0)
    assert numbers(training.callback_metrics) == first
    training.end_batches()
    assert training.epoch_row() == training.epoch_row() == {"x_epoch": 1.0}
