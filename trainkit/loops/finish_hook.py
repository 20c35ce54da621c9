"""Going on within a hook: a checkpoint that a plugin saves is taken before the plugins behind it were called."""

from __future__ import annotations

from trainkit.data.fit_loaders import FitLoaders
from trainkit.hooks.bound import BoundHooks
from trainkit.loops.evaluate import end_evaluation
from trainkit.loops.evaluation_mode import evaluation_mode
from trainkit.loops.run import FitRun
from trainkit.output import warn
from trainkit.types import Phase


def finish_hook(run: FitRun, hooks: BoundHooks, loaders: FitLoaders) -> None:
    """Call what was still to be called of the hook within which the checkpoint was saved, and what ends with it."""
    name = run.unfinished_hook.name if run.unfinished_hook else ""
    if name or run.progress.validation_ending:
        # What hooks ask for: whether the batch was the last of its epoch, and the size of groups.
        run.start_epoch(loaders.train.num_batches)
    if name == "on_validation_batch_end":
        _within_validation(run, loaders)
    elif name == "on_validation_end" or run.progress.validation_ending:
        _end_validation(run, hooks, loaders)
    elif name == "on_train_epoch_end":
        run.metrics.end_batches()
        _call_rest(run)
        run.end_epoch()
    elif name:
        if name == "on_train_end":
            run.metrics.end_phase(resumable=run.progress.epoch_left)  # that of training was over
            run.optimizer_modes.end()
        _call_rest(run)


def _within_validation(run: FitRun, loaders: FitLoaders) -> None:
    """Finish a hook between two batches of a validation, which goes on when its turn comes."""
    with evaluation_mode(run, Phase.VALIDATE):
        run.metrics.begin_phase(Phase.VALIDATE, len(loaders.val), resume=True)
        run.metrics.begin_batches(run.progress.validation_loader)
        _call_rest(run)
        run.metrics.end_phase(resumable=True)


def _end_validation(run: FitRun, hooks: BoundHooks, loaders: FitLoaders) -> None:
    """Finish one of the hooks at the end of a validation whose batches are done, and the validation."""
    with evaluation_mode(run, Phase.VALIDATE):
        run.metrics.begin_phase(Phase.VALIDATE, len(loaders.val), resume=True)
        run.metrics.end_batches()
        _call_rest(run)
        if run.progress.validation_ending:
            end_evaluation(run, hooks.validation, run.progress)
        else:
            run.metrics.end_phase()
    run.clock.mark_validation()


def _call_rest(run: FitRun) -> None:
    """Call the plugins that the hook had yet to call; say which ask for what is not there any more."""
    due, run.unfinished_hook = run.unfinished_hook, None
    if due is None:
        return
    progress = run.progress
    # Of the arguments of a batch only its place is still there.
    place = {"batch_idx": progress.batch - 1}
    if run.phase is Phase.VALIDATE:
        place = {"batch_idx": progress.validation_batch - 1, "dataloader_idx": progress.validation_loader}
    left_out = due.call(place)
    if left_out:
        warn(
            f"the checkpoint was saved in {due.name}, ahead of {', '.join(left_out)}, which asks for the batch or its "
            "outputs. These are in no checkpoint, so it is not called for that batch. Save in a plugin of the stage "
            "'persist', which comes last."
        )
