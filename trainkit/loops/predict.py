"""The prediction loop."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from trainkit.data.loaders import LimitedLoader
from trainkit.hooks.dispatch import BoundHooks
from trainkit.loops.modes import evaluation_mode
from trainkit.loops.run import Run
from trainkit.types import Phase


def predict(
    run: Run, hooks: BoundHooks, loaders: Sequence[LimitedLoader], *, keep: bool = True
) -> list[list[Any]] | None:
    """Run ``predict_step`` over every batch of ``loaders``, in their order.

    The order of hooks is that of an evaluation, with ``on_predict_...``.

    Returns:
        One list of outputs per loader; None if they are not to be kept.
    """
    on = hooks.predict
    step = run.evaluation_steps[Phase.PREDICT]
    predictions: list[list[Any]] = [[] for _ in loaders]
    with evaluation_mode(run, Phase.PREDICT):
        run.metrics.begin_phase(Phase.PREDICT, len(loaders))
        on.start()
        on.epoch_start()
        for dataloader_idx, loader in enumerate(loaders):
            for batch_idx, batch, _ in loader.batches():
                batch = run.transfer(batch, dataloader_idx)
                run.metrics.begin_batch(batch, dataloader_idx)
                on.batch_start(batch, batch_idx, dataloader_idx)
                with run.precision.autocast():
                    outputs = hooks.around_evaluation_step(step, batch, batch_idx, dataloader_idx)
                on.batch_end(outputs, batch, batch_idx, dataloader_idx)
                if keep:
                    predictions[dataloader_idx].append(outputs)
        run.metrics.end_batches()
        on.epoch_end()
        on.end()
        run.metrics.end_phase()
    return predictions if keep else None
