"""Reading a checkpoint that Lightning wrote: weights, optimizers, schedulers, callbacks and counters.

The two formats share most keys. Lightning keeps no random numbers, no position in the data and no logged values, so a
run that continues from its checkpoint begins these anew.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from trainkit.checkpoint.lightning_callbacks import callbacks_from_lightning
from trainkit.checkpoint.state import LIGHTNING_VERSION
from trainkit.errors import StateError
from trainkit.progress import Progress
from trainkit.storage.layout import FORMAT

Checkpoint = dict[str, Any]


def is_from_lightning(checkpoint: Mapping[str, Any]) -> bool:
    """Return whether Lightning wrote ``checkpoint``."""
    # trainkit writes Lightning's key too, so that Lightning loads the weights, beside one of its own.
    return LIGHTNING_VERSION in checkpoint and "trainkit" not in checkpoint


def from_lightning(checkpoint: Checkpoint) -> Checkpoint:
    """Return a checkpoint in trainkit's format with what is in ``checkpoint``, which Lightning wrote."""
    own: Checkpoint = {
        "format": FORMAT,
        "version": f"Lightning {checkpoint[LIGHTNING_VERSION]}",
        # The state of torch's GradScaler, under the names that it had over time.
        "precision": checkpoint.get("MixedPrecision") or checkpoint.get("native_amp_scaling_state") or {},
        "ranks": [],  # what each rank keeps for itself, which Lightning does not
    }
    converted = {**checkpoint, **callbacks_from_lightning(checkpoint), "trainkit": own}
    # There are none in a file that was saved with save_weights_only=True.
    if "loops" in checkpoint:
        progress = _progress(checkpoint)
        progress.mark_validation()  # when the last one was is not said
        converted["loops"] = {"fit": progress.state_dict()}
    return converted


def _progress(checkpoint: Checkpoint) -> Progress:
    """Read the counters of Lightning's fit loop.

    Lightning has four for batches and for epochs: ready, started, processed and completed. Hooks run between them, so
    which one tells how far the run had come depends on the hook that saved.
    """
    if "fit_loop" not in checkpoint["loops"]:
        raise StateError("there is no loops.fit_loop")
    loop = checkpoint["loops"]["fit_loop"]
    epochs = loop.get("epoch_progress", {}).get("current", {})
    batches = loop.get("epoch_loop.batch_progress", {})
    if not batches or epochs["completed"] == epochs["ready"]:  # saved after a fit
        return Progress(epoch=epochs.get("completed", checkpoint["epoch"]), global_step=_updates(checkpoint, loop))
    # A batch is processed when its update is made, and completed after on_train_batch_end. A checkpoint is mostly saved
    # in that hook, where the batch that is done counts as processed only.
    return Progress(
        epoch=epochs["completed"],
        batch=batches["current"]["processed"],
        is_last=batches["is_last_batch"],
        epoch_ended=batches["is_last_batch"],
        global_step=_updates(checkpoint, loop),
        total_batches=batches["total"]["processed"],
    )


def _updates(checkpoint: Checkpoint, loop: dict[str, Any]) -> int:
    """Return the number of batches in which an optimizer stepped: what trainkit calls ``global_step``."""
    steps: int = checkpoint["global_step"]
    manual_steps = loop.get("epoch_loop.manual_optimization.optim_step_progress", {}).get("total", {})
    # In automatic optimization there is one step per batch at most, and the two numbers are equal.
    if not manual_steps.get("completed"):
        return steps
    # In manual optimization Lightning's global_step counts every step of every optimizer. Beside it there is a count of
    # batches, which grows after on_train_batch_end: a batch in that hook has to be added.
    batches = loop["epoch_loop.batch_progress"]["total"]
    under_way: int = batches["processed"] - batches["completed"]
    stepped: int = loop["epoch_loop.state_dict"]["_batches_that_stepped"]
    return min(steps, stepped + under_way)
