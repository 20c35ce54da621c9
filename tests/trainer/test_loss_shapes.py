from __future__ import annotations

import warnings

import pytest
import torch
from torch.nn import functional

from trainkit.trainer.loss_shapes import one_shape_for_labels

LOSSES = [functional.mse_loss, functional.l1_loss, functional.smooth_l1_loss, functional.huber_loss]


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("shapes", [((3,), (3, 1)), ((3, 1), (3,)), ((12, 12), (12, 12, 1))], ids=str)
def test_a_last_1_that_one_side_lacks_is_an_error(loss, shapes):
    prediction, label = map(torch.zeros, shapes)
    # Also in a second run of the same line.
    for _ in range(2):
        with one_shape_for_labels(), pytest.raises(UserWarning, match="Using a target size"):
            loss(prediction, label)


@pytest.mark.filterwarnings("ignore:Using a target size")
@pytest.mark.parametrize("shapes", [((3, 4), (4,)), ((3, 4), (3, 1)), ((1,), (1, 1)), ((1, 1), (1,))], ids=str)
def test_other_shapes_are_left_to_torch(shapes):
    with one_shape_for_labels():
        functional.mse_loss(*map(torch.zeros, shapes))


def test_filters_are_put_back_and_those_of_the_user_stay():
    before = list(warnings.filters)
    with one_shape_for_labels():
        with one_shape_for_labels():
            warnings.filterwarnings("ignore", message="mine")
        with pytest.raises(UserWarning):
            functional.mse_loss(torch.zeros(2), torch.zeros(2, 1))
    added = [each for each in warnings.filters if each not in before]
    assert [each[1].pattern for each in added] == ["mine"]


def test_what_python_tells_once_is_not_told_again():
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("default")
        for _ in range(2):
            with one_shape_for_labels():
                warnings.warn("told once", stacklevel=1)
    assert len(caught) == 1
