from __future__ import annotations

import numpy as np
import pytest
import torch

from trainkit.errors import MetricError
from trainkit.metrics.options import LogOptions, refuse_difference, resolve
from trainkit.types import Phase

GIVEN = {
    "prog_bar": False,
    "logger": None,
    "on_step": None,
    "on_epoch": None,
    "reduce_fx": "mean",
    "sync_dist": None,
    "add_dataloader_idx": True,
    "rank_zero_only": False,
}


def resolved(phase=Phase.TRAIN, in_batch=True, **options):
    return resolve("x", tuple((GIVEN | options).values()), phase, in_batch=in_batch)


@pytest.mark.parametrize(
    ("phase", "in_batch", "on_step"),
    [
        (Phase.TRAIN, True, True),
        (Phase.TRAIN, False, False),
        (Phase.SANITY_CHECK, True, False),
        (Phase.VALIDATE, True, False),
        (Phase.VALIDATE, False, False),
        (Phase.TEST, True, False),
    ],
)
def test_training_batches_log_by_step_and_everything_else_by_epoch(phase, in_batch, on_step):
    options = resolved(phase, in_batch)
    assert (options.on_step, options.on_epoch, options.logger) == (on_step, not on_step, True)


def test_what_is_given_wins_over_the_default():
    options = resolved(on_epoch=True, on_step=False, logger=False)
    assert (options.on_step, options.on_epoch, options.logger) == (False, True, False)


def test_on_step_outside_a_batch_is_refused():
    with pytest.raises(MetricError, match=r"(?s)on_step=True.*the end of a validation.*leave on_step out"):
        resolved(Phase.VALIDATE, in_batch=False, on_step=True)


@pytest.mark.parametrize(
    ("spelling", "reduction"),
    [
        ("MAX", "max"),
        ("avg", "mean"),
        (torch.mean, "mean"),
        (torch.sum, "sum"),
        (torch.min, "min"),
        (torch.max, "max"),
        (min, "min"),
        (max, "max"),
        (sum, "sum"),
    ],
)
def test_reductions_have_several_spellings(spelling, reduction):
    assert resolved(reduce_fx=spelling).reduce_fx == reduction


@pytest.mark.parametrize("reduce_fx", ["median", torch.median, None, [], lambda values: values])
def test_unknown_reduction_is_refused_with_what_is_allowed(reduce_fx):
    with pytest.raises(MetricError, match="mean, sum, min, max"):
        resolved(reduce_fx=reduce_fx)


def test_misspelled_reduction_names_the_nearest():
    with pytest.raises(MetricError, match="did you mean 'mean'"):
        resolved(reduce_fx="meen")


def test_truth_values_of_numpy_are_taken():
    assert resolved(prog_bar=np.bool_(True), on_epoch=np.bool_(True)) == resolved(prog_bar=True, on_epoch=True)


@pytest.mark.parametrize(
    ("flag", "value"), [("prog_bar", None), ("logger", "tensorboard"), ("on_step", 1), ("sync_dist", "yes")]
)
def test_flags_are_true_or_false(flag, value):
    with pytest.raises(MetricError, match=f"{flag}={value!r}"):
        resolved(**{flag: value})


@pytest.mark.parametrize(
    ("given", "epoch", "step"),
    [
        ({}, True, False),
        ({"sync_dist": True}, True, True),
        ({"sync_dist": False}, False, False),
        ({"sync_dist": True, "rank_zero_only": True}, False, False),
    ],
)
def test_epoch_values_span_ranks_by_default_and_step_values_on_request(given, epoch, step):
    options = resolved(**given)
    assert (options.syncs_epoch, options.syncs_step) == (epoch, step)


def test_difference_shows_both_sides_and_nothing_else():
    before, now = resolved(), resolved(prog_bar=True, on_epoch=True)
    with pytest.raises(MetricError) as caught:
        refuse_difference("x", before, now)
    assert "before       prog_bar=False, on_epoch=False\n" in str(caught.value)
    assert "now          prog_bar=True, on_epoch=True\n" in str(caught.value)


def test_equal_options_are_no_difference():
    assert isinstance(resolved(), LogOptions)
    refuse_difference("x", resolved(), resolved(on_step=True))
