"""The evaluation loop: validation, test, and the sanity check ahead of training."""

from __future__ import annotations

from collections.abc import Sequence

from trainkit.data.loaders import LimitedLoader
from trainkit.hooks.dispatch import BoundHooks, EvaluationHooks
from trainkit.loops.modes import evaluation_mode
from trainkit.loops.run import Run
from trainkit.seed import isolate_rng
from trainkit.types import Phase


def evaluate(
    run: Run, hooks: BoundHooks, on: EvaluationHooks, loaders: Sequence[LimitedLoader], phase: Phase
) -> list[dict[str, float]]:
    """Run the module's step for ``phase`` over every batch of ``loaders``, without gradients.

    The order below is a promise to plugins; ``on`` stands for ``on_validation`` or ``on_test``::

        on_start, on_epoch_start
          on_batch_start, the step, on_batch_end
        on_epoch_end, on_end

    Returns:
        The epoch's metrics, one dict per loader.
    """
    with evaluation_mode(run, phase):
        run.metrics.begin_phase(phase, len(loaders))
        on.start()
        on.epoch_start()
        for dataloader_idx, loader in enumerate(loaders):
            evaluate_batches(run, hooks, on, loader, dataloader_idx)
        run.metrics.end_batches()
        on.epoch_end()
        on.end()
        results = run.metrics.results()
        run.metrics.end_phase()
    return results


def evaluate_batches(
    run: Run, hooks: BoundHooks, on: EvaluationHooks, loader: LimitedLoader, dataloader_idx: int
) -> None:
    """Evaluate the batches of one loader."""
    step = run.evaluation_step()
    for batch_idx, batch, _ in loader.batches():
        batch = run.transfer(batch, dataloader_idx)
        run.metrics.begin_batch(batch, dataloader_idx)
        on.batch_start(batch, batch_idx, dataloader_idx)
        with run.precision.autocast():
            outputs = hooks.around_evaluation_step(step, batch, batch_idx, dataloader_idx)
        on.batch_end(outputs, batch, batch_idx, dataloader_idx)


def validate(run: Run, hooks: BoundHooks, loaders: Sequence[LimitedLoader]) -> None:
    """Validate in the middle of a fit."""
    run.progress.validated_batch = run.progress.batch
    evaluate(run, hooks, hooks.validation, loaders, Phase.VALIDATE)
    run.clock.mark_validation()


def sanity_check(run: Run, hooks: BoundHooks, loaders: Sequence[LimitedLoader]) -> None:
    """Try a few validation batches ahead of training, and leave no trace: no metrics, no random numbers drawn."""
    if not loaders:
        return
    run.phase = Phase.SANITY_CHECK
    with isolate_rng(), run.metrics.silenced():
        hooks.on_sanity_check_start()
        evaluate(run, hooks, hooks.validation, loaders, Phase.SANITY_CHECK)
        hooks.on_sanity_check_end()
