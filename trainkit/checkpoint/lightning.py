"""Checkpoints that Lightning wrote, in trainkit's words: weights, optimizers, schedulers, callbacks and counters.

The two share most keys. What Lightning does not keep (random numbers, the position in the data, logged values) a run
that goes on begins anew.
"""

from __future__ import annotations

from typing import Any

from trainkit.checkpoint.lightning_callbacks import callbacks_from_lightning
from trainkit.checkpoint.state import FORMAT, LIGHTNING_VERSION
from trainkit.progress import Progress

Checkpoint = dict[str, Any]


def is_from_lightning(checkpoint: Checkpoint) -> bool:
    """Return whether Lightning wrote ``checkpoint``. trainkit writes the same mark, beside its own."""
    return LIGHTNING_VERSION in checkpoint and "trainkit" not in checkpoint


def from_lightning(checkpoint: Checkpoint) -> Checkpoint:
    """Return ``checkpoint``, which Lightning wrote, as one of trainkit."""
    own: Checkpoint = {
        "format": FORMAT,
        "version": f"Lightning {checkpoint[LIGHTNING_VERSION]}",
        # The state of torch's GradScaler, under the names that it had over time.
        "precision": checkpoint.get("MixedPrecision") or checkpoint.get("native_amp_scaling_state") or {},
        "ranks": [],
    }
    converted = {**checkpoint, **callbacks_from_lightning(checkpoint), "trainkit": own}
    if "loops" in checkpoint:
        converted["loops"] = {"fit": _progress(checkpoint).state_dict()}
    return converted


def _progress(checkpoint: Checkpoint) -> Progress:
    """Read the counters. Lightning counts what is ready, started, processed and completed, the hooks in between."""
    loop = checkpoint["loops"].get("fit_loop", {})
    epochs = loop.get("epoch_progress", {}).get("current", {})
    batches = loop.get("epoch_loop.batch_progress", {})
    if not batches or epochs["completed"] == epochs["ready"]:  # saved after a fit
        return Progress(epoch=epochs.get("completed", checkpoint["epoch"]), global_step=_updates(checkpoint, loop))
    # A batch is processed when its update is made; what is saved in on_train_batch_end has not completed it.
    return Progress(
        epoch=epochs["completed"],
        batch=batches["current"]["processed"],
        is_last=batches["is_last_batch"],
        epoch_ended=batches["is_last_batch"],
        global_step=_updates(checkpoint, loop),
        total_batches=batches["total"]["processed"],
    )


def _updates(checkpoint: Checkpoint, loop: dict[str, Any]) -> int:
    """Return the number of batches in which something was updated; Lightning counts every step of every optimizer."""
    steps: int = checkpoint["global_step"]
    manual_steps = loop.get("epoch_loop.manual_optimization.optim_step_progress", {}).get("total", {})
    if not manual_steps.get("completed"):
        return steps
    batches = loop["epoch_loop.batch_progress"]["total"]
    under_way: int = batches["processed"] - batches["completed"]
    stepped: int = loop["epoch_loop.state_dict"]["_batches_that_stepped"]
    return min(steps, stepped + under_way)
