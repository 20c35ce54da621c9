from __future__ import annotations

import pytest
import torch
import torchmetrics

from trainkit.metrics.options import LogOptions
from trainkit.metrics.slots import EPOCH_HOOK, EVERY_LOADER, Slot, SlotSpec


def slot(place=0, *, several_loaders=False, is_metric=False, **options):
    defaults = {"prog_bar": False, "logger": True, "on_step": False, "on_epoch": True, "reduce_fx": "mean"}
    defaults |= {"sync_dist": None, "add_dataloader_idx": True, "rank_zero_only": False}
    spec = SlotSpec("x", place, LogOptions(**(defaults | options)), is_metric)
    return Slot(spec, several_loaders=several_loaders)


@pytest.mark.parametrize(
    ("made", "names"),
    [
        (slot(), ("x", "x", "x")),
        (slot(on_step=True, on_epoch=False), ("x", "x", "x")),
        (slot(on_step=True), ("x", "x_step", "x_epoch")),
        (slot(2, several_loaders=True), ("x/dataloader_idx_2",) * 3),
        (
            slot(1, several_loaders=True, on_step=True),
            ("x/dataloader_idx_1", "x_step/dataloader_idx_1", "x_epoch/dataloader_idx_1"),
        ),
        (slot(EVERY_LOADER, several_loaders=True), ("x", "x", "x")),
        (slot(EPOCH_HOOK, several_loaders=True), ("x", "x", "x")),
    ],
)
def test_names_tell_step_from_epoch_and_loaders_apart_only_where_there_are_both(made, names):
    assert (made.key, made.step_key, made.epoch_key) == names


def test_value_is_that_of_the_numbers_or_of_the_metric():
    numbers, metric = slot(), slot(is_metric=True)
    numbers.running.add(1.0, 1)
    numbers.running.add(4.0, 2)
    metric.metric = torchmetrics.SumMetric()
    metric.metric.update(5)
    assert (numbers.value(), metric.value()) == (3.0, 5.0)


def test_value_is_no_tensor_of_inference_mode():
    made = slot()
    with torch.inference_mode():
        made.running.add(torch.tensor(1.0), 1)
        value = made.value()
    assert not value.is_inference()


@pytest.mark.parametrize(("now", "expected"), [("mean", 2.0), ("max", 3.0)])
def test_what_was_collected_before_a_checkpoint_counts_unless_the_reduction_was_changed(now, expected):
    older, newer = slot(), slot(reduce_fx=now, prog_bar=True)
    older.running.add(1.0, 1)
    newer.continue_from(older)
    newer.running.add(3.0, 1)
    assert newer.value() == expected
