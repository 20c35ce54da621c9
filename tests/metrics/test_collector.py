from __future__ import annotations

import gc
import warnings

import pytest
import torch
import torchmetrics
from hypothesis import given
from hypothesis import strategies as st
from torch.utils._python_dispatch import TorchDispatchMode

from trainkit.errors import MetricError
from trainkit.metrics.collector import MetricCollector
from trainkit.types import Phase

from .conftest import OneRank, numbers


class Reads(TorchDispatchMode):
    """Counts how often a tensor is read."""

    count = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.count += func is torch.ops.aten._local_scalar_dense.default
        return func(*args, **(kwargs or {}))


# Where values go


def test_training_batch_logs_the_step(training):
    training.log("x", torch.tensor(1.0))
    assert numbers(training.callback_metrics) == numbers(training.logged_metrics) == {"x": 1.0}
    training.end_batches()
    assert training.epoch_row() == {}
    assert training.step_row() == {"x": 1.0}


def test_validation_batch_logs_the_epoch(validating):
    validating.log("x", torch.tensor(1.0))
    assert validating.callback_metrics == {}
    validating.end_batches()
    assert numbers(validating.callback_metrics) == validating.epoch_row() == {"x": 1.0}
    assert validating.results() == [{"x": 1.0}]
    assert validating.step_row() == {}


def test_step_and_epoch_together_are_told_apart(training):
    for value in (1.0, 3.0):
        training.log("x", value, on_epoch=True, prog_bar=True)
    assert numbers(training.callback_metrics) == {"x": 3.0, "x_step": 3.0}
    training.end_batches()
    assert numbers(training.callback_metrics) == {"x": 2.0, "x_step": 3.0, "x_epoch": 2.0}
    assert numbers(training.progress_bar_metrics) == {"x_step": 3.0, "x_epoch": 2.0}
    assert numbers(training.logged_metrics) == {"x_step": 3.0, "x_epoch": 2.0}
    assert (training.step_row(), training.epoch_row()) == ({"x_step": 3.0}, {"x_epoch": 2.0})


def test_step_values_of_a_validation_are_shown_but_decide_nothing(validating):
    validating.log("x", 1.0, on_step=True, prog_bar=True)
    assert validating.callback_metrics == {}
    assert numbers(validating.progress_bar_metrics) == {"x_step": 1.0}
    validating.log("x", 2.0, on_step=True, prog_bar=True)
    validating.end_batches()
    assert numbers(validating.callback_metrics) == {"x": 1.5, "x_epoch": 1.5}
    assert (validating.step_row(), validating.epoch_row()) == ({"x_step": 2.0}, {"x_epoch": 1.5})


def test_logger_and_prog_bar_choose_the_tables(training):
    training.log("a", 1.0, logger=False)
    training.log("b", 2.0, prog_bar=True)
    assert set(training.callback_metrics) == {"a", "b"}
    assert set(training.logged_metrics) == set(training.step_row()) == set(training.progress_bar_metrics) == {"b"}


def test_values_are_those_of_the_newest_batch_since_the_last_row(training):
    training.log("every", 1.0)
    training.log("sometimes", 10.0)
    training.begin_batches().batch = torch.zeros(4)
    training.log("every", 2.0)
    assert training.step_row() == {"every": 2.0, "sometimes": 10.0}
    assert training.step_row() == {}
    training.log("every", 3.0)
    training.end_batches()
    training.end_phase()
    training.begin_phase(Phase.TRAIN)
    assert training.step_row() == {"every": 3.0}


def test_metrics_outlive_their_phase(validating):
    validating.log("val/loss", 1.0)
    validating.end_batches()
    validating.end_phase()
    validating.begin_phase(Phase.TRAIN)
    validating.begin_batches().batch = None
    validating.log("train/loss", 2.0)
    assert numbers(validating.callback_metrics) == {"val/loss": 1.0, "train/loss": 2.0}
    assert validating.results() == [{"val/loss": 1.0}]


def test_new_run_starts_without_metrics(validating):
    validating.log("x", 1.0)
    validating.end_batches()
    validating.reset()
    assert (validating.callback_metrics, validating.logged_metrics, validating.results()) == ({}, {}, [])
    with pytest.raises(MetricError, match="wrong place"):
        validating.log("x", 1.0)


# Values


def test_later_changes_in_place_do_not_reach_a_logged_tensor(training):
    value = torch.tensor([1.0])
    training.log("x", value, on_epoch=True)
    value.add_(100)
    training.end_batches()
    assert numbers(training.callback_metrics) == {"x": 1.0, "x_step": 1.0, "x_epoch": 1.0}


def test_graph_of_a_logged_loss_is_not_kept(training):
    weight = torch.ones(3, requires_grad=True)
    training.log("x", (weight * 2).sum(), on_epoch=True)
    training.end_batches()
    assert not any(value.requires_grad for value in training.callback_metrics.values())


@pytest.mark.parametrize("dtype", [torch.bool, torch.int64, torch.float16, torch.float32])
@pytest.mark.parametrize("shape", [(), (1,)])
def test_every_kind_of_tensor_can_be_logged(training, dtype, shape):
    training.log("x", torch.ones(shape, dtype=dtype), on_epoch=True)
    training.end_batches()
    assert numbers(training.callback_metrics) == {"x": 1.0, "x_step": 1.0, "x_epoch": 1.0}
    assert all(value.shape == () for value in training.callback_metrics.values())


@pytest.mark.parametrize("value", [3, True, 0.1])
def test_every_kind_of_number_can_be_logged(training, value):
    training.log("x", value, on_epoch=True)
    training.end_batches()
    assert training.step_row() == {"x_step": float(value)}
    assert training.epoch_row() == {"x_epoch": float(value)}


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (torch.zeros(2), r"shape \(2,\)"),
        ("0.5", "got a str"),
        (None, "got a NoneType"),
        ({"a": 1.0}, "log_dict"),
        (torchmetrics.MetricCollection([torchmetrics.SumMetric()]), "log_dict"),
    ],
)
def test_what_is_no_number_is_refused(training, value, message):
    with pytest.raises(MetricError, match=message):
        training.log("x", value)


# Epochs


@given(
    sizes=st.lists(st.integers(1, 9), min_size=1, max_size=12),
    data=st.data(),
    as_tensors=st.booleans(),
)
def test_epoch_mean_is_the_mean_over_all_samples(sizes, data, as_tensors):
    collector = MetricCollector(OneRank())
    collector.begin_phase(Phase.TRAIN)
    samples = []
    for size in sizes:
        batch = torch.tensor(data.draw(st.lists(st.floats(-100, 100, width=32), min_size=size, max_size=size)))
        samples.append(batch)
        collector.begin_batches().batch = {"x": batch}
        mean = batch.double().mean()
        collector.log("x", mean if as_tensors else mean.item(), on_step=False, on_epoch=True)
    collector.end_batches()
    assert collector.epoch_row()["x"] == pytest.approx(torch.cat(samples).double().mean().item(), rel=1e-9, abs=1e-9)


def test_batch_size_given_by_the_user_wins(validating):
    validating.log("x", 1.0, batch_size=1)
    validating.log("x", 5.0, batch_size=3)
    validating.end_batches()
    assert validating.results() == [{"x": 4.0}]


@pytest.mark.parametrize(("reduce_fx", "expected"), [("sum", 6.0), ("min", 1.0), (torch.max, 5.0)])
def test_other_reductions_ask_for_no_batch_size(collector, reduce_fx, expected):
    collector.begin_phase(Phase.VALIDATE)
    for value in (1.0, 5.0):
        collector.begin_batches().batch = object()
        collector.log("x", value, reduce_fx=reduce_fx)
    collector.end_batches()
    assert collector.results() == [{"x": expected}]


def test_doubtful_batch_size_is_1_and_warned_of_once(collector):
    collector.begin_phase(Phase.VALIDATE)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for size, value in ((1, 1.0), (5, 3.0)):
            collector.begin_batches().batch = (torch.zeros(size), torch.zeros(7))
            collector.log("x", value)
            collector.log("y", value)
    collector.end_batches()
    assert collector.results() == [{"x": 2.0, "y": 2.0}]
    assert [str(warning.message).count("batch_size=") for warning in caught] == [1]


def test_each_epoch_starts_anew(collector):
    for epoch in range(3):
        collector.begin_phase(Phase.TRAIN)
        collector.begin_batches().batch = torch.zeros(2)
        collector.log("x", float(epoch), on_step=False, on_epoch=True)
        collector.end_batches()
        assert collector.epoch_row() == {"x": float(epoch)}
        collector.end_phase()


def test_hooks_outside_batches_log_the_epoch_and_are_readable_at_once(training):
    training.end_batches()
    training.log("x", 1.0)
    assert numbers(training.callback_metrics) == {"x": 1.0}
    training.log("x", 4.0)
    training.reduce_epoch_hook_values()
    assert training.epoch_row() == {"x": 2.5}


def test_epoch_start_hook_logs_without_a_batch(collector):
    collector.begin_phase(Phase.TRAIN)
    collector.log("x", torch.tensor(1.0))
    collector.begin_batches().batch = torch.zeros(2)
    collector.end_batches()
    assert collector.epoch_row() == {"x": 1.0}


def test_step_and_epoch_hook_may_use_one_name(training):
    training.log("x", 1.0)
    training.end_batches()
    training.log("x", 5.0)
    assert (training.step_row(), training.epoch_row()) == ({"x": 1.0}, {"x": 5.0})
    assert numbers(training.callback_metrics) == {"x": 5.0}


def test_validation_in_mid_epoch_leaves_the_epoch_alone(training):
    training.log("x", 1.0, on_epoch=True)
    training.begin_phase(Phase.VALIDATE)
    training.begin_batches().batch = torch.zeros(4)
    training.log("x", 9.0)
    training.end_batches()
    assert numbers(training.callback_metrics)["x"] == 9.0
    training.end_phase()
    training.begin_batches().batch = torch.zeros(4)
    training.log("x", 3.0, on_epoch=True)
    training.end_batches()
    assert training.epoch_row() == {"x_epoch": 2.0}


# Several dataloaders


def test_each_loader_has_a_value_and_a_result_of_its_own(collector):
    collector.begin_phase(Phase.TEST, 2)
    for dataloader_idx in (0, 1):
        collector.begin_batches(dataloader_idx).batch = torch.zeros(2)
        collector.log("x", float(dataloader_idx))
        collector.log("y", float(dataloader_idx), on_step=True)
        collector.log(f"own_{dataloader_idx}", 3.0, add_dataloader_idx=False)
        collector.log("all", float(dataloader_idx), add_dataloader_idx=False)
    collector.end_batches()
    collector.log("hook", 7.0)
    assert collector.results() == [
        {f"x/dataloader_idx_{i}": i, f"y/dataloader_idx_{i}": i, f"y_epoch/dataloader_idx_{i}": i, f"own_{i}": 3.0}
        | {"all": 0.5, "hook": 7.0}
        for i in (0, 1)
    ]
    assert "y_step/dataloader_idx_1" in collector.logged_metrics
    assert collector.epoch_row()["y_epoch/dataloader_idx_1"] == 1.0


# Wrong use


def test_log_outside_any_phase_says_where_it_works(collector):
    with pytest.raises(MetricError, match=r"(?s)'x'.*wrong place.*outside a training epoch.*training_step"):
        collector.log("x", 1.0)
    collector.begin_phase(Phase.TRAIN)
    collector.end_batches()
    collector.end_phase()
    with pytest.raises(MetricError, match="wrong place"):
        collector.log("x", 1.0)


def test_log_in_a_prediction_is_refused(collector):
    collector.begin_phase(Phase.PREDICT)
    collector.begin_batches().batch = None
    with pytest.raises(MetricError, match="a prediction"):
        collector.log("x", 1.0)


def test_on_step_in_an_epoch_hook_is_refused(training):
    training.end_batches()
    with pytest.raises(MetricError, match=r"on_step=True\) was called outside a batch"):
        training.log("x", 1.0, on_step=True)


def test_one_name_with_different_options_is_refused(training):
    training.log("x", 1.0)
    with pytest.raises(MetricError, match=r"(?s)before       prog_bar=False\n.*now          prog_bar=True"):
        training.log("x", 1.0, prog_bar=True)
    training.log("x", 1.0, on_step=True)  # only spelled differently


def test_options_may_differ_in_another_phase(training):
    training.log("x", 1.0)
    training.begin_phase(Phase.VALIDATE)
    training.begin_batches().batch = torch.zeros(1)
    training.log("x", 1.0, prog_bar=True)


@pytest.mark.parametrize("name", [3, None, ["x"], torch.tensor(1.0)])
def test_name_is_a_str(training, name):
    with pytest.raises(MetricError, match="first the name, then the value"):
        training.log(name, 1.0)


def test_loader_index_is_not_for_users_to_write(training):
    with pytest.raises(MetricError, match="is added where there are several"):
        training.log("x/dataloader_idx_0", 1.0)


def test_value_that_goes_nowhere_is_warned_of_once(training):
    with pytest.warns(UserWarning, match="'x'.*goes nowhere"):
        training.log("x", 1.0, on_step=False)
    training.log("x", 1.0, on_step=False)
    assert training.callback_metrics == {}


# The sanity check


def test_nothing_remains_of_what_was_silenced(validating):
    validating.log("x", 1.0)
    validating.end_batches()
    validating.end_phase()
    metric = torchmetrics.SumMetric()
    with validating.silenced():
        validating.begin_phase(Phase.SANITY_CHECK)
        validating.begin_batches().batch = torch.zeros(2)
        metric.update(1.0)
        validating.log("x", 9.0, prog_bar=True)
        validating.log("y", metric)
        validating.end_batches()
        assert validating.results() == [{"x": 9.0, "y": 1.0}]
        assert numbers(validating.callback_metrics) == {"x": 9.0, "y": 1.0}
        validating.end_phase()
    assert numbers(validating.callback_metrics) == numbers(validating.logged_metrics) == {"x": 1.0}
    assert (validating.progress_bar_metrics, validating.results()) == ({}, [{"x": 1.0}])
    assert not metric.update_called


def test_silenced_phase_that_fails_is_left(collector):
    with pytest.raises(ZeroDivisionError), collector.silenced():
        collector.begin_phase(Phase.SANITY_CHECK)
        raise ZeroDivisionError
    with pytest.raises(MetricError, match="wrong place"):
        collector.log("x", 1.0)


# Costs


def test_memory_is_flat(training):
    def living_tensors():
        gc.collect()
        return sum(issubclass(type(thing), torch.Tensor) for thing in gc.get_objects())

    loss = torch.ones(3, requires_grad=True)

    def batches(count):
        for _ in range(count):
            training.begin_batches().batch = torch.zeros(4)
            training.log("step", loss.sum())
            training.log("both", loss.sum(), on_epoch=True)
            training.log("max", loss.sum(), on_epoch=True, reduce_fx="max")

    batches(2)
    before = living_tensors()
    batches(200)
    # Fewer is no leak: what earlier tests have left may go meanwhile.
    assert living_tensors() <= before


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
def test_a_logged_tensor_is_given_back_in_its_dtype(training, dtype):
    training.log("x", torch.tensor(0.1, dtype=dtype, requires_grad=True))
    (value,) = training.callback_metrics.values()
    assert (value.dtype, value.requires_grad, value.shape) == (dtype, False, ())
    assert torch.equal(value, torch.tensor(0.1, dtype=dtype))


def test_checkpoints_and_rows_have_no_numbers_of_our_own_kind(training):
    training.log("x", torch.tensor(0.1))
    saved = training.state_dict(torch.nn.Module())
    assert all(torch.equal(saved[table]["x"], torch.tensor(0.1)) for table in ("callback", "logged", "step_row"))
    assert {type(value) for value in training.step_row().values()} == {float}


@pytest.mark.parametrize("reduce_fx", ["mean", "sum", "min", "max"])
def test_an_epoch_is_reduced_alike_whether_its_tensors_are_read_or_kept(training, monkeypatch, reduce_fx):
    values = torch.tensor([0.1, 1e8, -3.7, 0.3])
    for name, is_read in (("read", True), ("kept", False)):
        monkeypatch.setattr(torch.Tensor, "is_cpu", is_read, raising=False)
        for value in values:
            training.log(name, value, on_step=False, on_epoch=True, reduce_fx=reduce_fx, batch_size=3)
    training.end_batches()
    read, kept = training.callback_metrics.values()
    assert (read.dtype, read.shape) == (kept.dtype, kept.shape)
    assert torch.allclose(read, kept, rtol=1e-15)


def test_logging_never_reads_a_tensor_of_an_accelerator(training, monkeypatch):
    monkeypatch.setattr(torch.Tensor, "is_cpu", False, raising=False)  # as one of a GPU says
    loss = torch.ones(3, requires_grad=True).sum()
    with Reads() as reads:
        for _ in range(3):
            training.begin_batches().batch = (torch.zeros(4, 2), torch.zeros(4))
            training.log("step", loss)
            training.log("both", loss, on_epoch=True, prog_bar=True)
            training.log("min", loss, on_epoch=True, reduce_fx="min")
        training.end_batches()
        training.log("hook", loss)
        assert training.callback_metrics
    assert reads.count == 0
