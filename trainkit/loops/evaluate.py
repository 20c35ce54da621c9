"""The evaluation loop: validation, test, prediction, and the sanity check ahead of training."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from trainkit.data.loaders import LimitedLoader
from trainkit.hooks.bound import BoundHooks, EvaluationHooks
from trainkit.loops.drifting_ranks import digest, require_same
from trainkit.loops.evaluation_mode import evaluation_mode
from trainkit.loops.gather_predictions import gather_predictions
from trainkit.loops.run import FitRun, Run
from trainkit.metrics.options import describe
from trainkit.module.modes import modes_kept
from trainkit.progress import Progress
from trainkit.seed import isolate_rng, rng_state
from trainkit.types import Phase


def evaluate(
    run: Run,
    hooks: BoundHooks,
    on: EvaluationHooks,
    loaders: Sequence[LimitedLoader],
    phase: Phase,
    *,
    progress: Progress | None = None,
    keep: Callable[[int, Any], None] | None = None,
) -> list[dict[str, float]]:
    """Run the module's step for ``phase`` over every batch of ``loaders``, without gradients.

    The order below is a promise to plugins; ``on`` stands for ``on_validation``, ``on_test`` or ``on_predict``::

        on_start
          on_epoch_start
            on_batch_start, the step, on_batch_end
          on_epoch_end
        on_end

    Args:
        run: The run.
        hooks: Its hooks.
        on: Those of them that belong to this phase.
        loaders: What to evaluate, one after the other.
        phase: What is being done.
        progress: Where to count, and where to begin if a run continues in the middle; by default at the beginning.
        keep: Gets ``(dataloader_idx, outputs)`` of every batch.

    Returns:
        The metrics of the whole pass, one dict per loader.
    """
    # Counted on its own outside of a fit, whose counters stand for training and its validations.
    progress = progress or Progress()
    is_continued = progress.in_validation
    progress.validation_started = True
    with evaluation_mode(run, phase):
        run.metrics.begin_phase(phase, len(loaders), resume=is_continued)
        # A validation that is continued has called these before; what they draw would be drawn twice.
        with isolate_rng(is_continued):
            on.start()
            on.epoch_start()
        # Behind the hooks, which may put averaged weights in place.
        run.strategy.sync_buffers(run.module)
        step, has_context = run.evaluation_step(), run.precision.has_context
        first, start = progress.validation_loader, progress.validation_batch
        for dataloader_idx, loader in enumerate(loaders[first:], first):
            collected = run.metrics.begin_batches(dataloader_idx, loader.known_samples)
            batches = loader.batches(start if dataloader_idx == first else 0)
            for batch_idx, batch, _ in run.strategy.in_turns(batches):
                collected.batch, collected.batch_idx = batch, batch_idx
                batch = collected.batch = run.transfer(batch, dataloader_idx)
                if on.batch_start:
                    on.batch_start(batch, batch_idx, dataloader_idx)
                if has_context:
                    with run.precision.autocast():
                        outputs = hooks.around_evaluation_step(step, batch, batch_idx, dataloader_idx)
                else:
                    outputs = hooks.around_evaluation_step(step, batch, batch_idx, dataloader_idx)
                # Ahead of the hook, as in training: a checkpoint saved in it begins with the next batch.
                progress.count_validation_batch(dataloader_idx)
                if on.batch_end:
                    on.batch_end(outputs, batch, batch_idx, dataloader_idx)
                if keep is not None:
                    keep(dataloader_idx, outputs)
                # A validation may take hours: a signal is honoured after each of its batches.
                run.stop_signal.leave_if(run.agreement.settle_in_evaluation(dataloader_idx).signal)
            if run.agreement.is_called:
                # Another rank may have more batches, behind one of which it is to be left for a signal.
                run.stop_signal.leave_if(run.agreement.settle_in_evaluation(dataloader_idx, is_end=True).signal)
        # Whole before its end hooks, in which schedulers, early stopping and checkpoints ask whether it was.
        progress.count_validation()
        own = digest(run)
        numbers = run.metrics.end_batches(own and own.number)
        if own is not None:
            require_same(run, own, numbers, f"at the end of {describe(phase)}")
        on.epoch_end()
        return end_evaluation(run, on, progress)


def end_evaluation(run: Run, on: EvaluationHooks, progress: Progress) -> list[dict[str, float]]:
    """End an evaluation whose ``on_epoch_end`` was called; return its metrics, one dict per loader."""
    progress.validation_ending = False  # ahead of the hook, as all counters
    on.end()
    results = run.metrics.results()
    run.metrics.end_phase()
    return results


def validate(run: FitRun, hooks: BoundHooks, loaders: Sequence[LimitedLoader]) -> None:
    """Validate in the middle of a fit."""
    evaluate(run, hooks, hooks.validation, loaders, Phase.VALIDATE, progress=run.progress)
    run.clock.mark_validation()
    run.agreement.validated()


def sanity_check(run: Run, hooks: BoundHooks, loaders: Sequence[LimitedLoader]) -> None:
    """Try a few validation batches ahead of training, and leave no trace: no metrics, random numbers, buffers."""
    if not loaders:
        return
    # A plugin that stops on what it sees here would stop a run that has not begun: its wish is taken back.
    asked, by = run.stop_signal.asked, run.stop_signal.asked_by
    run.phase = Phase.SANITY_CHECK
    run.rng_outside = rng_state()
    with isolate_rng(), run.metrics.silenced():
        hooks.on_sanity_check_start()
        # Buffers may count or observe what they are given, such as the ranges of a model that is to be quantized.
        with modes_kept(run.module, buffers=True):
            evaluate(run, hooks, hooks.validation, loaders, Phase.SANITY_CHECK)
        hooks.on_sanity_check_end()
    run.rng_outside = None
    run.stop_signal.ask(asked, by=by)


def predict(run: Run, hooks: BoundHooks, loaders: Sequence[LimitedLoader]) -> list[list[Any]]:
    """Predict every batch; return what ``predict_step`` returned, on all ranks, one list per loader."""
    predictions: list[list[Any]] = [[] for _ in loaders]

    def keep(dataloader_idx: int, outputs: Any) -> None:
        predictions[dataloader_idx].append(outputs)

    evaluate(run, hooks, hooks.predict, loaders, Phase.PREDICT, keep=keep)
    return gather_predictions(run.strategy, predictions, loaders)
