from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from trainkit.errors import ModuleError
from trainkit.loops.accumulation import Accumulation, Place, batches_per_update
from trainkit.strategies.single import SingleDevice
from trainkit.testing import TinyData, TinyModule, quiet_trainer


def started(schedule, epoch=0, num_batches=None):
    group = Accumulation(schedule)
    group.start_epoch(epoch, num_batches)
    return group


@pytest.mark.parametrize(("epoch", "size"), [(0, 1), (1, 1), (2, 4), (3, 4), (7, 2), (100, 2)])
def test_the_number_that_holds_is_that_of_the_newest_epoch_in_the_schedule(epoch, size):
    assert started({0: 1, 2: 4, 7: 2}, epoch).size == batches_per_update({0: 1, 2: 4, 7: 2}, epoch) == size


@given(size=st.integers(1, 7), num_batches=st.integers(1, 20))
def test_every_batch_weighs_the_same_in_groups_of_any_size(size, num_batches):
    group = started({0: size}, num_batches=num_batches)
    parameter = torch.nn.Parameter(torch.zeros(num_batches, dtype=torch.float64))
    gradients = []
    for batch_idx in range(num_batches):
        is_last = batch_idx == num_batches - 1
        if not group.is_open:
            group.open(batch_idx, weighted=False)
            parameter.grad = None
        group.divide(parameter[batch_idx] * 1.0, None).backward()
        group.count_batch()
        if group.closes(batch_idx, is_last):
            rescale = group.rescale(SingleDevice("cpu"))
            assert rescale is None, "its size was foreseen"
            gradients.append(parameter.grad.clone())
            group.close()
    assert not group.is_open
    sizes = [len(range(first, min(first + size, num_batches))) for first in range(0, num_batches, size)]
    for gradient, first, batches in zip(gradients, range(0, num_batches, size), sizes, strict=True):
        expected = torch.zeros(num_batches, dtype=torch.float64)
        expected[first : first + batches] = 1 / batches
        assert torch.equal(gradient, expected)


@pytest.mark.parametrize(("counted", "factor"), [(1, 4.0), (2, 2.0), (3, 4 / 3)])
def test_a_group_that_closes_shorter_than_was_foreseen_is_rescaled(counted, factor):
    group = started({0: 4})
    group.open(0, weighted=False)
    for _ in range(counted):
        group.count_batch()
    assert group.rescale(SingleDevice("cpu")) == pytest.approx(factor)


def test_sums_are_divided_by_the_weight_of_the_whole_group():
    group = started({0: 2}, num_batches=2)
    loss = torch.tensor(6.0)
    group.open(0, weighted=True)
    assert group.divide(loss, 3) is loss
    group.count_batch()
    assert group.divide(loss, torch.tensor(5.0)) is loss
    group.count_batch()
    assert group.rescale(SingleDevice("cpu")) == pytest.approx(1 / 8)


def test_a_group_of_nothing_but_padding_is_not_divided_by_zero():
    group = started({0: 1})
    group.open(0, weighted=True)
    group.divide(torch.tensor(0.0), 0)
    group.count_batch()
    assert torch.isfinite(torch.as_tensor(group.rescale(SingleDevice("cpu"))))


def test_a_part_has_its_share_of_the_loss():
    group = started({0: 1})
    group.open(0, weighted=False)
    assert group.divide(torch.tensor(8.0), None, share=0.25) == 2


@pytest.mark.parametrize(("share", "members"), [(1.0, "batches"), (0.5, "parts")])
@pytest.mark.parametrize("weighted", [True, False])
def test_weights_for_some_of_a_group_are_refused(weighted, share, members):
    group = started({0: 2})
    group.open(0, weighted=weighted)
    with pytest.raises(ModuleError, match=f"for all {members} or for none"):
        group.divide(torch.tensor(1.0), None if weighted else 2, share)


def test_a_batch_that_is_computed_again_does_not_count_twice():
    group = started({0: 3})
    group.open(0, weighted=False)
    group.count_batch()
    waiting = group.batches
    for _ in range(2):
        group.rewind(waiting)
        group.count_batch()
    assert group.batches == 2
    group.rewind(0)
    assert not group.is_open


def test_the_places_of_a_ragged_epoch():
    group = started({0: 2}, num_batches=3)
    places = []
    for batch_idx in range(3):
        place = group.place(batch_idx, batch_idx == 2)
        places.append(place)
        if place.opens:
            group.open(batch_idx, weighted=False)
        group.count_batch()
        if place.closes:
            group.close()
    assert places == [Place(True, False, 2, None), Place(False, True, 2, None), Place(True, True, 1, None)]


def test_a_place_that_closes_early_tells_by_how_much_to_rescale():
    group = started({0: 4})
    group.open(0, weighted=False)
    group.count_batch()
    assert group.place(1, True) == Place(False, True, 4, 2.0)


def test_an_open_group_comes_back_with_its_gradients():
    module = TinyModule()
    group = started({0: 3})
    assert group.state_dict(module) is None
    group.open(0, weighted=False)
    module.layer.weight.grad = torch.full_like(module.layer.weight, 0.5)
    group.count_batch()
    state = group.state_dict(module)

    other, resumed = TinyModule(), started({0: 3})
    resumed.load_state_dict(state, batches=1, module=other)
    assert (resumed.batches, resumed.divisor, resumed.is_open) == (1, 3, True)
    assert torch.equal(other.layer.weight.grad, module.layer.weight.grad)
    assert other.layer.bias.grad is None


def test_nothing_comes_back_between_two_groups():
    resumed = started({0: 3})
    resumed.load_state_dict(None, batches=0, module=TinyModule())
    assert not resumed.is_open


def test_a_compiled_step_advances_the_group_as_an_eager_one_does():
    group = started({0: 3}, num_batches=4)
    seen = []
    for batch_idx, total in enumerate([2.0, 5.0, 9.0, 4.0]):
        place = group.place(batch_idx, batch_idx == 3)
        seen.append((place.opens, place.closes, group.weight_before(place)))
        group.advance(place, batch_idx, torch.tensor(total))
    assert seen == [(True, False, None), (False, False, 2.0), (False, True, 5.0), (True, True, None)]
    assert not group.is_open


def test_a_group_that_no_epoch_fills_is_told_once():
    group = started({0: 4}, num_batches=3)
    with pytest.warns(UserWarning, match="accumulate_grad_batches=4 is more than the 3 training batches") as told:
        group.warn_if_never_full()
        group.warn_if_never_full()
    assert len(told) == 1


@pytest.mark.parametrize("num_batches", [4, 5, 0, None])
def test_a_group_that_an_epoch_may_fill_is_not(num_batches):
    started({0: 4}, num_batches=num_batches).warn_if_never_full()


def test_a_fast_dev_run_has_too_few_batches_on_purpose():
    quiet_trainer(fast_dev_run=True, accumulate_grad_batches=4).fit(TinyModule(), TinyData(4))
