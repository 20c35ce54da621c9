from __future__ import annotations

import math
import warnings

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trainkit.errors import ConfigError
from trainkit.interval import Interval
from trainkit.loops.limits import NO_LIMIT
from trainkit.progress import Progress
from trainkit.testing import TinyData, TinyModule, quiet_trainer
from trainkit.trainer.run_length import (
    DEFAULT_MAX_EPOCHS,
    begin_or_say_done,
    epoch_begin,
    estimated_updates,
    is_endless,
    make_limits,
    max_epochs,
    max_steps,
)


def limits_of(num_batches=10, validates=True, **arguments):
    given = quiet_trainer(**arguments).arguments
    return make_limits(given.stop, given.data, num_batches=num_batches, validates=validates)


@pytest.mark.parametrize(
    ("arguments", "epochs", "steps", "endless"),
    [
        ({"max_epochs": 3}, 3, NO_LIMIT, False),
        ({"max_epochs": -1}, NO_LIMIT, NO_LIMIT, False),
        ({"max_epochs": None}, DEFAULT_MAX_EPOCHS, NO_LIMIT, True),
        ({"max_epochs": None, "max_steps": 5}, NO_LIMIT, 5, False),
        ({"max_epochs": None, "max_time": "00:00:01:00"}, NO_LIMIT, NO_LIMIT, False),
        ({"max_epochs": 3, "max_steps": 5}, 3, 5, False),
        ({"max_epochs": 3, "fast_dev_run": True}, 1, 1, False),
        ({"max_epochs": None, "max_steps": 5, "fast_dev_run": 7}, 1, 7, False),
        ({"max_epochs": -1, "fast_dev_run": 7}, 1, 7, False),
    ],
)
def test_how_many_epochs_and_steps(arguments, epochs, steps, endless):
    given = quiet_trainer(**arguments).arguments
    assert max_epochs(given.stop, given.data) == epochs
    assert max_steps(given.stop, given.data) == steps
    assert is_endless(given.stop) is endless


def test_a_fit_of_which_nobody_said_how_long_it_is_says_what_it_does():
    with pytest.warns(UserWarning, match="max_epochs is not set: training for 1000 epochs"):
        assert limits_of(max_epochs=None).max_epochs == 1000
    limits_of(max_epochs=None, fast_dev_run=True)


def test_limits_are_what_was_given():
    limits = limits_of(max_epochs=4, min_epochs=2, max_steps=9, min_steps=3, max_time={"minutes": 2})
    assert (limits.max_epochs, limits.min_epochs, limits.max_steps, limits.min_steps) == (4, 2, 9, 3)
    assert limits.max_time_s == 120
    assert limits_of().max_time_s == math.inf
    assert (limits_of().min_epochs, limits_of().min_steps) == (0, 0)
    assert limits_of(check_val_every_n_epoch=3).validate_every_n_epochs == 3
    assert not limits_of(validates=False).validate


def test_a_fast_dev_run_waits_for_no_minimum():
    limits = limits_of(max_epochs=9, min_epochs=5, min_steps=5, fast_dev_run=True)
    assert (limits.min_epochs, limits.min_steps) == (0, 0)


@pytest.mark.parametrize(
    ("interval", "every"),
    [(1.0, NO_LIMIT), (0.5, 5), (0.25, 2), (0.01, 1), (0.99, 9), (1, 1), (4, 4), (10, 10)],
)
def test_the_interval_of_validation_in_batches(interval, every):
    assert limits_of(val_check_interval=interval).validate_every_n_batches == every


def test_a_share_of_an_epoch_is_one_of_the_running_epoch():
    limits = limits_of(val_check_interval=0.5)
    limits.start_epoch(6)
    assert (limits.num_batches, limits.validate_every_n_batches) == (6, 3)


def test_a_time_takes_the_place_of_an_interval_in_batches():
    limits = limits_of(val_check_interval={"seconds": 90})
    assert (limits.validate_every, limits.validate_every_n_batches) == (Interval(90, "seconds"), NO_LIMIT)
    assert limits_of(val_check_interval=2).validate_every is None


def test_a_fast_dev_run_validates_once_at_its_end():
    for cadence in (
        {"val_check_interval": 0.25},
        {"check_val_every_n_epoch": 5},
        {"check_val_every_n_epoch": None, "val_check_interval": 3},
        {"val_check_interval": {"hours": 1}},
    ):
        limits = limits_of(**cadence, fast_dev_run=4)
        assert (limits.validate_every_n_epochs, limits.validate_every_n_batches) == (1, NO_LIMIT)
        assert limits.validate_every is None


def test_an_interval_that_does_not_fit_is_refused_before_anything_runs():
    with pytest.raises(ConfigError, match="val_check_interval=11 is more than the 10 training batches"):
        limits_of(val_check_interval=11)
    with pytest.raises(ConfigError, match="val_check_interval=0.5 is a share of an epoch[\\s\\S]*does not know"):
        limits_of(None, val_check_interval=0.5)


@pytest.mark.parametrize(
    ("num_batches", "validates", "arguments"),
    [
        (10, False, {"val_check_interval": 11}),
        (None, True, {"val_check_interval": 11}),
        (10, True, {"val_check_interval": 11, "check_val_every_n_epoch": None}),
        (None, True, {"val_check_interval": 1.0}),
        (None, False, {"val_check_interval": 0.5}),
    ],
)
def test_an_interval_is_fine_where_it_can_be_kept_or_nothing_is_validated(num_batches, validates, arguments):
    limits_of(num_batches, validates, **arguments)


@given(
    num_batches=st.integers(1, 9),
    epochs=st.integers(0, 12),
    schedule=st.dictionaries(st.integers(0, 9), st.integers(1, 5), min_size=1),
    steps=st.sampled_from([-1, 0, 3, 50]),
)
def test_updates_are_estimated_epoch_by_epoch(num_batches, epochs, schedule, steps):
    arguments = quiet_trainer(max_epochs=epochs, max_steps=steps, accumulate_grad_batches=schedule).arguments
    updates = 0
    for epoch in range(epochs):
        starts = [start for start in {0, *schedule} if start <= epoch]
        updates += math.ceil(num_batches / schedule.get(max(starts), 1))
    expected = updates if steps == -1 else min(updates, steps)
    assert (
        estimated_updates(num_batches, arguments.stop, arguments.data, arguments.optimization.accumulation) == expected
    )


@pytest.mark.parametrize(
    ("num_batches", "arguments", "expected"),
    [
        (NO_LIMIT, {"max_epochs": 3}, NO_LIMIT),
        (NO_LIMIT, {"max_epochs": 3, "max_steps": 5}, 5),
        (4, {"max_epochs": -1}, NO_LIMIT),
        (4, {"max_epochs": -1, "max_steps": 5}, 5),
        (4, {"max_epochs": 3, "fast_dev_run": 2}, 2),
    ],
)
def test_updates_without_a_bound_are_infinite(num_batches, arguments, expected):
    given = quiet_trainer(**arguments).arguments
    assert estimated_updates(num_batches, given.stop, given.data, given.optimization.accumulation) == expected


@pytest.mark.parametrize(
    ("since", "arguments", "expected"),
    [((1, 4), {}, 4), ((1, 2), {"max_steps": 5}, 3), ((2, 9), {}, 0), ((0, 9), {"max_steps": 5}, 0)],
)
def test_updates_that_are_done_are_not_counted(since, arguments, expected):
    given = quiet_trainer(max_epochs=2, **arguments).arguments
    assert estimated_updates(4, given.stop, given.data, {0: 1}, since) == expected


def test_where_the_running_epoch_began():
    accumulation = {0: 1, 1: 2}
    assert epoch_begin(Progress(epoch=0, batch=3, global_step=3), accumulation) == (0, 0)
    assert epoch_begin(Progress(epoch=1, batch=3, global_step=6), accumulation) == (1, 5)
    assert epoch_begin(Progress(epoch=1, batch=5, is_last=True, global_step=8), accumulation) == (1, 5)


def test_a_fit_that_has_nothing_left_to_do_says_which_limit_was_reached():
    trainer = quiet_trainer(max_epochs=2)
    trainer.fit(TinyModule(), TinyData(3))
    run = trainer.fit_run
    with pytest.warns(UserWarning, match="nothing is left to train: 2 epochs and 6 steps are done, and max_epochs=2"):
        begin_or_say_done(run)
    run.limits.max_epochs, run.limits.max_steps = NO_LIMIT, 6
    with pytest.warns(UserWarning, match="and max_steps=6. Raise it"):
        begin_or_say_done(run)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        run.limits.max_steps = 7
        begin_or_say_done(run)
        run.limits.max_steps, run.progress.batch, run.progress.is_last = 6, 3, True
        begin_or_say_done(run)  # the end of the epoch is still to come
        run.limits.max_steps = run.progress.epoch = run.progress.total_batches = 0
        run.progress.batch, run.progress.is_last = 0, False
        begin_or_say_done(run)  # nothing was to be done from the beginning


def test_a_second_fit_says_what_goes_on_and_what_is_made_anew(capsys):
    trainer, module = quiet_trainer(max_epochs=1), TinyModule()
    trainer.fit(module, TinyData(3))
    assert "counts on" not in capsys.readouterr().err
    trainer.max_epochs = 2
    trainer.fit(module, TinyData(3))
    assert (
        "this fit counts on from epoch 1, step 3, with optimizers and schedulers made anew" in capsys.readouterr().err
    )
    assert (trainer.current_epoch, trainer.global_step) == (2, 6)


@pytest.mark.parametrize("limit", ["max_epochs", "max_steps"])
def test_a_limit_may_be_changed_while_a_fit_runs(limit):
    class Ends(TinyModule):
        def on_train_batch_end(self, batch_idx):
            if self.trainer.global_step == 4:
                setattr(self.trainer, limit, 4 if limit == "max_steps" else 2)

    trainer = quiet_trainer(max_epochs=9)
    trainer.fit(Ends(), TinyData(3))
    assert trainer.global_step == (4 if limit == "max_steps" else 6)
    with pytest.raises(ConfigError):
        setattr(trainer, limit, -2)
