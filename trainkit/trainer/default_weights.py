"""Which weights are evaluated where neither a module nor a checkpoint is given."""

from __future__ import annotations

from typing import TYPE_CHECKING

from trainkit.output import warn
from trainkit.types import Stage

if TYPE_CHECKING:
    from trainkit.trainer import Trainer


def best_of_the_last_fit(trainer: Trainer, stage: Stage) -> str | None:
    """Return the ``ckpt_path`` to evaluate, of which is told; None is the module as it stands."""
    if trainer.fast_dev_run or not getattr(trainer.checkpoint_callback, "best_model_path", ""):
        return None
    warn(
        f"trainer.{stage}() was called without a module and uses the best checkpoint of the last fit. To use the "
        f"module as it stands, pass it: trainer.{stage}(module, ...)."
    )
    return "best"
