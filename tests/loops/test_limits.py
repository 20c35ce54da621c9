from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from trainkit.interval import Interval
from trainkit.loops.limits import NO_LIMIT, Clock, Limits
from trainkit.progress import Progress

UNITS = ("steps", "batches", "samples", "epochs")


@given(
    num_batches=st.integers(1, 12),
    known=st.booleans(),
    every_n_batches=st.one_of(st.just(NO_LIMIT), st.integers(1, 15)),
    every_n_epochs=st.one_of(st.none(), st.integers(1, 3)),
    max_steps=st.one_of(st.just(NO_LIMIT), st.integers(0, 30)),
    validate=st.booleans(),
    skipped=st.sets(st.integers(0, 40)),
    every=st.one_of(st.none(), st.builds(Interval, st.integers(1, 9), st.sampled_from(UNITS))),
)
def test_nothing_is_due_while_it_is_said_to_be_quiet(
    num_batches, known, every_n_batches, every_n_epochs, max_steps, validate, skipped, every
):
    limits = Limits(
        max_steps=max_steps,
        validate=validate,
        validate_every_n_batches=every_n_batches,
        validate_every_n_epochs=every_n_epochs,
        validate_every=every,
    )
    progress = Progress()
    for _ in range(3):
        quiet_until = 0.0
        for batch_idx in range(num_batches):
            if progress.total_batches not in skipped:
                progress.count_update()
            is_last = batch_idx == num_batches - 1
            progress.count_batch(is_last)
            progress.samples += batch_idx % 4
            due = limits.reached(progress) or (validate and limits.validation_due(progress))
            # After a last batch the loop looks, foreseen or not.
            if progress.total_batches < quiet_until and not is_last:
                assert not due
            else:
                if validate and limits.validation_due(progress):
                    progress.count_validation()
                limits.num_batches = num_batches if known else None
                quiet = limits.quiet_batches(progress)
                quiet_until = progress.total_batches + quiet
        progress.count_epoch()


def test_what_is_due_by_time_is_looked_for_after_every_batch():
    assert Limits(max_time_s=60.0).quiet_batches(Progress()) == 0
    assert Limits(validate=True, validate_every=Interval(60.0, "seconds")).quiet_batches(Progress()) == 0


def test_a_long_stretch_without_validation_and_limits_is_one_quiet_stretch():
    assert Limits().quiet_batches(Progress()) == NO_LIMIT
    assert Limits(validate=True).quiet_batches(Progress(batch=3, total_batches=13)) == NO_LIMIT
    assert Limits(validate=True, num_batches=10).quiet_batches(Progress(batch=3, total_batches=13)) == 7
    assert Limits(validate=True, validate_every_n_batches=4, num_batches=10).quiet_batches(Progress(batch=4)) == 4
    assert Limits(max_steps=8, validate=True, num_batches=10).quiet_batches(Progress(global_step=5)) == 3


def test_what_goes_by_steps_or_batches_is_foreseen_and_what_goes_by_samples_is_not():
    def quiet(unit):
        progress = Progress(batch=3, global_step=13, total_batches=33, samples=103, validated_at_step=12)
        return Limits(validate=True, validate_every=Interval(10, unit), num_batches=9).quiet_batches(progress)

    # Batches are overdue: none was validated at 10, 20 or 30.
    assert [quiet(unit) for unit in UNITS] == [7, 0, 0, 6]


def test_an_epoch_that_was_left_is_made_up_for_at_the_end_of_the_next():
    limits = Limits(validate=True, validate_every=Interval(2, "epochs"))
    progress = Progress(epoch=2, batch=1)  # the second one ended without a validation
    assert not limits.validation_due(progress)
    progress.is_last = True
    assert limits.validation_due(progress)


def test_time_runs_from_the_start_of_the_clock(monkeypatch):
    now = [100.0]
    monkeypatch.setattr("time.monotonic", lambda: now[0])
    progress = Progress()
    progress.load_state_dict({"elapsed_s": 7.0})
    clock = Clock(progress)
    now[0] += 50  # not fitting yet
    clock.start()
    now[0] += 3
    assert (progress.elapsed_s, clock.since_validation_s()) == (10.0, 3.0)
    clock.mark_validation()
    now[0] += 2
    assert (progress.elapsed_s, clock.since_validation_s()) == (12.0, 2.0)
    assert progress.state_dict()["elapsed_s"] == 12.0
    progress.stop_clock()
    now[0] += 50
    assert progress.elapsed_s == 12.0
