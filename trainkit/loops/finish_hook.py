"""Going on within a hook: a checkpoint that a plugin saves is taken before the plugins behind it were called."""

from __future__ import annotations

import warnings

from trainkit.data.fit_loaders import FitLoaders
from trainkit.hooks.bound import BoundHooks
from trainkit.loops.evaluate import end
from trainkit.loops.evaluation_mode import evaluation_mode
from trainkit.loops.run import FitRun
from trainkit.types import Phase


def finish_hook(run: FitRun, hooks: BoundHooks, loaders: FitLoaders) -> None:
    """Call what was still to be called of the hook within which the checkpoint was saved, and what ends with it."""
    progress, name = run.progress, run.due.name if run.due else ""
    if not name and not progress.validation_ending:
        return
    run.start_epoch(loaders.train.num_batches)
    if progress.validation_ending or name == "on_validation_end":
        with evaluation_mode(run, Phase.VALIDATE):
            run.metrics.begin_phase(Phase.VALIDATE, len(loaders.val), resume=True)
            run.metrics.end_batches()
            _call_rest(run)
            if progress.validation_ending:
                end(run, hooks.validation, progress)
            else:
                run.metrics.end_phase()
        run.clock.mark_validation()
    elif name == "on_train_epoch_end":
        run.metrics.end_batches()
        _call_rest(run)
        run.end_epoch()
    else:
        if name == "on_train_end":
            run.metrics.end_phase(resumable=progress.epoch_left)  # that of training was over
        _call_rest(run)


def _call_rest(run: FitRun) -> None:
    due, run.due = run.due, None
    if due is None:
        return
    # Of the arguments of a batch only its index is still there.
    left_out = due.call({"batch_idx": run.progress.batch - 1})
    if left_out:
        warnings.warn(
            f"the checkpoint was saved in {due.name}, ahead of {', '.join(left_out)}, which asks for the batch or its "
            "outputs. These are in no checkpoint, so it is not called for that batch. Save in a plugin of the stage "
            "'persist', which comes last.",
            stacklevel=2,
        )
