from __future__ import annotations

import warnings

import pytest
import torch
from torch.nn import functional

from trainkit.callbacks import Callback
from trainkit.errors import ModuleError
from trainkit.testing import TinyData, TinyModule, quiet_trainer
from trainkit.trainer.loss_shapes import named_error, one_shape_for_labels

LOSSES = [functional.mse_loss, functional.l1_loss, functional.smooth_l1_loss, functional.huber_loss]


class Squares(TinyModule):
    """Compares N x N differences."""

    def training_step(self, batch, batch_idx):
        return functional.mse_loss(self.layer(batch[0])[:, :1], torch.zeros(3))


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


def test_a_warning_that_was_told_before_is_an_error_all_the_same():
    module = Squares()
    with warnings.catch_warnings():
        warnings.simplefilter("default")
        warnings.showwarning = lambda *_: None
        for _ in range(2):
            with pytest.raises(ModuleError):
                quiet_trainer().fit(module, TinyData(1))
            module.training_step((torch.zeros(3, 4), torch.zeros(3)), 0)


def test_the_error_of_a_fit_is_ours_and_says_what_to_do():
    seen = []

    class Hears(Callback):
        def on_exception(self, exception):
            seen.append(exception)

    with pytest.raises(ModuleError, match=r"labels of shape \(3,\) for predictions of shape \(3, 1\)") as caught:
        quiet_trainer(callbacks=[Hears()]).fit(Squares(), TinyData(1))
    assert "Give both one shape" in str(caught.value)
    assert "y.unsqueeze(1)" in caught.value.__notes__[-1]
    assert isinstance(caught.value.__cause__, UserWarning)
    assert seen == [caught.value]


def test_another_error_is_left_as_it_is():
    for error in (UserWarning("Using a target size that is odd"), ValueError("Using a target size")):
        assert named_error(error) is error
