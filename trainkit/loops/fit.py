"""The training loop: epochs and batches. One optimisation step is in optimize.py."""

from __future__ import annotations

from collections.abc import Sequence

from trainkit.data.fit_loaders import FitLoaders
from trainkit.hooks.bound import BoundHooks
from trainkit.loops import optimize
from trainkit.loops.drifting_ranks import compare_ranks, digest, require_same
from trainkit.loops.evaluate import sanity_check, validate
from trainkit.loops.finish_hook import finish_hook
from trainkit.loops.run import FitRun, Step
from trainkit.loops.sample_count import begin_count
from trainkit.loops.steps import choose_step
from trainkit.loops.unequal_ranks import without_padding
from trainkit.seed import isolate_rng
from trainkit.types import Phase


def fit(run: FitRun, hooks: BoundHooks, loaders: FitLoaders) -> None:
    """Train ``run.module`` until a limit of ``run.limits`` is reached.

    The order below is a promise to plugins::

        on_fit_start
          sanity check: a few validation batches, of which nothing remains
          on_train_start
            on_train_epoch_start
              on_train_batch_start, forward, backward, update when due, on_train_batch_end
              validation when due
            on_train_epoch_end
          on_train_end
        on_fit_end
    """
    # A fit that is resumed calls hooks again which it has called before; of what they draw, training sees nothing.
    with isolate_rng(run.is_resumed):
        hooks.on_fit_start()
    # A fit that has nothing left to do, or no batches, still tells its plugins that it began and ended.
    if not run.has_nothing_to_do() and loaders.train.num_batches != 0:
        sanity_check(run, hooks, loaders.sanity)
        run.phase = Phase.TRAIN
        run.clock.start()
        # Already here, since `on_train_start` may log. `train_epoch` does it for each epoch.
        run.metrics.begin_phase(Phase.TRAIN, resume=run.is_resumed or run.progress.in_epoch)
        with isolate_rng(run.is_resumed):
            hooks.on_train_start()
        # A checkpoint that was saved within a hook leaves plugins to be called, and no other does.
        finish_hook(run, hooks, loaders)
        begin_count(run)
        # Only now: hooks until here may add parameter groups or freeze layers, which a compiled step has to know.
        step = choose_step(run)
        while not run.is_done():
            train_epoch(run, hooks, loaders, step)
        # Unless the checkpoint was saved when the plugins had been told already.
        if not run.progress.ended:
            run.progress.ended = True
            run.optimizer_modes.end()
            hooks.on_train_end()
    run.optimizer_modes.end()  # as well where there was nothing left to train
    hooks.on_fit_end()
    compare_ranks(run, "at the end of the fit")


def train_epoch(run: FitRun, hooks: BoundHooks, loaders: FitLoaders, step: Step) -> None:
    """Train on the batches of one epoch that are still to come, and validate when due."""
    progress = run.progress
    # Loaders first: they may be made anew for this epoch, with another number of batches.
    loaders.start_epoch(progress.epoch)
    train = loaders.train
    run.start_epoch(train.num_batches, has_equal_parts=train.has_equal_parts, weight_of_batch=train.weight_of_batch)
    if run.weight_of_batch is not None:
        step = without_padding(step)
    # In the middle of an epoch, what was logged in it before the checkpoint still counts.
    run.metrics.begin_phase(Phase.TRAIN, resume=progress.in_epoch)
    if not progress.in_epoch:
        progress.epoch_started = True
        hooks.on_train_epoch_start()
    progress.epoch_left = False  # a run that had stopped in this epoch goes on in it
    # A run that continues may have been saved between a batch and its validation.
    stopped = progress.batch > 0 and close_batch(run, hooks, loaders)
    if not stopped and not progress.is_last:
        run.optimizer_modes.train()
    batches = () if stopped else loaders.train.batches(start=progress.batch)
    collected = run.metrics.begin_batches(
        accumulates=run.accumulation.size > 1, known_samples=loaders.train.known_samples
    )
    for batch_idx, batch, is_last in batches:
        # What `self.log` weighs its values by is the size of this batch; transfer hooks may log, and change it.
        collected.batch, collected.batch_idx = batch, batch_idx
        batch = collected.batch = run.transfer(batch, 0)
        run.is_last_batch = is_last
        # A hook that nobody joins is false, which spares the two hottest places the call.
        if hooks.on_train_batch_start and asks_to_skip(hooks.on_train_batch_start(batch, batch_idx)):
            run.agree_to_skip()
            run.is_last_batch = False
            break
        outputs = step(run, hooks, batch, batch_idx, is_last)
        # Counted ahead of the hook, so that a checkpoint saved in it begins with the next batch.
        progress.count_batch(is_last)
        if hooks.on_train_batch_end:
            hooks.on_train_batch_end(outputs, batch, batch_idx)
        # Before `next_check_batch` neither a validation nor an end can be due, and nothing is looked for.
        if (is_last or progress.total_batches >= run.next_check_batch) and close_batch(run, hooks, loaders):
            stopped = True
            break
    else:
        if loaders.train.ended_early and not progress.is_last:
            close_short_epoch(run, hooks, loaders)
    # The epoch may have ended earlier than its last group was foreseen to: by -1, a limit, or a short loader.
    optimize.close_group(run, hooks)
    # All that ranks tell each other at the end of an epoch: what they have logged, and whether they have drifted apart.
    own = digest(run)
    numbers = run.metrics.end_batches(own and own.number)
    if own is not None:
        require_same(run, own, numbers, f"at the end of epoch {progress.epoch}")
    # Ahead of the hook, as all counters: a run that was saved in it is behind it.
    if stopped:
        progress.epoch_left = True
    else:
        progress.epoch_ended = True
    hooks.on_train_epoch_end()
    run.end_epoch()


def close_batch(run: FitRun, hooks: BoundHooks, loaders: FitLoaders) -> bool:
    """Validate if that is due after the newest batch; return whether training ends here, in the middle of an epoch.

    After an epoch's last batch it never does: the end of the epoch comes first, and `fit` asks again.
    """
    # A signal first: it leaves from here, where the batch is whole and its checkpoint can be continued exactly.
    run.stop_signal.leave_if(run.agreement.settle().signal)
    if run.validation_due():
        validate(run, hooks, loaders.val)
    run.set_next_check()
    stops = run.stops_here()
    if not stops and not run.progress.is_last:
        run.optimizer_modes.train()
    return stops


def close_short_epoch(run: FitRun, hooks: BoundHooks, loaders: FitLoaders) -> None:
    """Do what is due after the last batch of a loader that has ended before its length, and tells only now."""
    optimize.close_group(run, hooks)
    run.is_last_batch = run.progress.is_last = True
    close_batch(run, hooks, loaders)


def asks_to_skip(answers: Sequence[int]) -> bool:
    """Whether a plugin returned -1 from ``on_train_batch_start``: the rest of the epoch is skipped."""
    return any(type(answer) is int and answer == -1 for answer in answers)
