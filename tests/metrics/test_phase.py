from __future__ import annotations

import pytest
import torch

from trainkit.errors import CheckpointError, MetricError
from trainkit.metrics.phase import PhaseLog, Published
from trainkit.metrics.slots import EPOCH_HOOK, EVERY_LOADER
from trainkit.types import Phase

DEFAULTS = (False, None, None, None, "mean", None, True, False)
SHARED = (False, None, None, None, "mean", None, False, False)


@pytest.fixture
def log():
    return PhaseLog(Phase.VALIDATE, 2, Published())


def test_one_name_has_a_slot_for_each_place(log):
    opened = [log.open("x", DEFAULTS, is_metric=False)]
    for dataloader_idx in (0, 1):
        log.enter(dataloader_idx)
        opened.append(log.open("x", DEFAULTS, is_metric=False))
    assert [slot.spec.place for slot in opened] == [EPOCH_HOOK, 0, 1]
    assert log.current == {"x": opened[2]}
    log.leave_batches()
    assert log.current == {"x": opened[0]}


def test_loaders_share_a_slot_if_the_name_shall_not_tell_them_apart(log):
    log.enter(0)
    first = log.open("x", SHARED, is_metric=False)
    log.enter(1)
    assert log.open("x", SHARED, is_metric=False) is first
    assert (first.spec.place, first.loaders) == (EVERY_LOADER, {0, 1})


def test_same_options_spelled_differently_are_the_same(log):
    log.enter(0)
    explicit = (False, True, False, True, torch.mean, None, True, False)
    assert log.open("x", explicit, is_metric=False) is log.open("x", DEFAULTS, is_metric=False)


def test_number_and_metric_under_one_name_are_refused(log):
    log.open("x", DEFAULTS, is_metric=False)
    with pytest.raises(MetricError, match="as a number and as a torchmetrics Metric"):
        log.open("x", DEFAULTS, is_metric=True)


def test_batch_is_let_go_once_its_size_is_known(log):
    batch = torch.zeros(3)
    log.enter(0)
    log.batch = batch
    assert (log.batch_size(), log.batch_size()) == (3, 3)
    assert log.batch is not batch
    log.batch = torch.zeros(5)
    assert log.batch_size() == 5


def test_published_tables_are_replaced_in_place():
    published = Published(callback={"a": 1.0}, logged={"b": 2.0})
    callback = published.callback
    published.replace({"callback": {"c": 3.0}})
    assert callback == {"c": 3.0}
    assert published.logged == {}


@pytest.mark.parametrize("way", ["checkpoint", "pause"])
def test_step_values_of_an_evaluation_outlive_its_interruption_and_its_epoch_values_do_not(way):
    log = PhaseLog(Phase.VALIDATE, 1, Published())
    log.enter(0)
    slot = log.open("both", (False, None, True, True, *DEFAULTS[4:]), is_metric=False)
    for table, key in slot.step_tables:
        table[key] = 0.5
    log.publish_epoch(slot, 0.25)
    if way == "pause":
        log.pause()
    else:
        state, log = log.state_dict({}), PhaseLog(Phase.VALIDATE, 1, Published())
        log.load_state_dict(state, {})
    assert (log.step_row, log.epoch_row) == ({"both_step": 0.5}, {})


def test_a_loader_that_is_not_there_is_refused():
    phase = PhaseLog(Phase.VALIDATE, 2, Published())
    phase.enter(1)
    phase.open("loss", DEFAULTS, is_metric=False)
    state = phase.state_dict({})
    state["slots"][0]["loaders"] = [10**12]
    with pytest.raises(CheckpointError, match="'loss' was logged for loader 1000000000000, which is not there"):
        PhaseLog(Phase.VALIDATE, 2, Published()).load_state_dict(state, {})


@pytest.mark.parametrize("name", ["half \ud800", "zero \0"])
def test_a_name_that_no_file_can_hold_is_an_error_at_once(log, name):
    with pytest.raises(MetricError, match="no file can hold this name"):
        log.open(name, DEFAULTS, is_metric=False)
