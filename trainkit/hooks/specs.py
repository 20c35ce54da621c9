"""Every hook, declared once: its name, its arguments, when it fires and what a returned value means.

A plugin implements a hook by having a method of that name, and names only the arguments it wants. The order in which
plugins are called is explained in ``hooks/manager.py``.
"""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any

import pluggy

if TYPE_CHECKING:  # pluggy reads the names of arguments, never their types: hooks work without torch
    from collections.abc import Generator

    import torch
    from torch import Tensor

    from trainkit.module import TrainModule
    from trainkit.trainer import Trainer
    from trainkit.types import Batch, Stage, StepOutput

hookspec = pluggy.HookspecMarker("trainkit")
hookimpl = pluggy.HookimplMarker("trainkit")
"""Marks a method for options: ``tryfirst``, ``trylast``, ``wrapper=True``. Without options it is not needed."""


# The run


@hookspec
def setup(trainer: Trainer, module: TrainModule, stage: Stage) -> None:
    """Before anything is built for ``stage``; the data module's own ``setup`` has run."""


@hookspec
def teardown(trainer: Trainer, module: TrainModule, stage: Stage) -> None:
    """After everything else, also after an exception."""


@hookspec
def on_exception(trainer: Trainer, module: TrainModule, exception: BaseException) -> None:
    """After an exception ended the run, for every plugin, even if one of them raises. Never masks the original."""


@hookspec
def on_log(trainer: Trainer, module: TrainModule, metrics: dict[str, float], step: int) -> None:
    """A row of metrics is ready to be written. ``step`` is the ``global_step`` it belongs to. Called on every rank."""


@hookspec
def on_save_checkpoint(trainer: Trainer, module: TrainModule, checkpoint: dict[str, Any]) -> None:
    """A checkpoint is complete and about to be written. Add your own keys to the dict."""


@hookspec
def on_load_checkpoint(trainer: Trainer, module: TrainModule, checkpoint: dict[str, Any]) -> None:
    """A checkpoint has been read, and nothing of it has been loaded yet."""


# Fitting


@hookspec
def on_fit_start(trainer: Trainer, module: TrainModule) -> None:
    """Once per fit: the module is on its device, optimizers exist, a checkpoint has been restored."""


@hookspec
def on_fit_end(trainer: Trainer, module: TrainModule) -> None:
    """Once per fit that ended without an exception, last."""


@hookspec
def on_sanity_check_start(trainer: Trainer, module: TrainModule) -> None:
    """Before the sanity check: a few validation batches that are run ahead of training."""


@hookspec
def on_sanity_check_end(trainer: Trainer, module: TrainModule) -> None:
    """After the sanity check. What it logged is dropped, and the random numbers are put back."""


@hookspec
def on_train_start(trainer: Trainer, module: TrainModule) -> None:
    """Before the first epoch of this fit, after the sanity check."""


@hookspec
def on_train_end(trainer: Trainer, module: TrainModule) -> None:
    """After the last epoch of this fit."""


@hookspec
def on_train_epoch_start(trainer: Trainer, module: TrainModule) -> None:
    """Before the first batch of an epoch (also of one that continues from a checkpoint)."""


@hookspec
def on_train_epoch_end(trainer: Trainer, module: TrainModule) -> None:
    """After the last batch and its validation. Epoch means are reduced; values logged here belong to the epoch."""


@hookspec
def on_train_batch_start(trainer: Trainer, module: TrainModule, batch: Batch, batch_idx: int) -> int | None:
    """Before a batch, which is on its device. If any plugin returns -1, the rest of the epoch is skipped."""


@hookspec
def on_train_batch_end(
    trainer: Trainer, module: TrainModule, outputs: StepOutput, batch: Batch, batch_idx: int
) -> None:
    """After backward and, where it closes a group, the update. ``outputs["loss"]`` is detached, and not divided."""


# One optimisation step


@hookspec
def on_before_zero_grad(trainer: Trainer, module: TrainModule, optimizer: torch.optim.Optimizer) -> None:
    """Before the gradients of the last update are cleared: once per accumulation group."""


@hookspec
def on_before_backward(trainer: Trainer, module: TrainModule, loss: Tensor) -> None:
    """Before backward of one batch. ``loss`` is divided by the size of the accumulation group, as backward gets it."""


@hookspec
def on_after_backward(trainer: Trainer, module: TrainModule) -> None:
    """After backward of one batch; with a gradient scaler the gradients are still scaled."""


@hookspec
def on_before_optimizer_step(trainer: Trainer, module: TrainModule, optimizer: torch.optim.Optimizer) -> None:
    """Before an update: the accumulation group is complete, gradients are unscaled and not yet clipped."""


@hookspec
def on_clip_gradients(trainer: Trainer, module: TrainModule, optimizer: torch.optim.Optimizer) -> None:
    """After every ``on_before_optimizer_step``, right before the update: the place to change gradients."""


@hookspec
def on_after_optimizer_step(trainer: Trainer, module: TrainModule, optimizer: torch.optim.Optimizer) -> None:
    """After an update that was made; not after one that a gradient scaler skipped."""


# Evaluation and prediction


@hookspec
def on_validation_start(trainer: Trainer, module: TrainModule) -> None:
    """Before a validation; the module is in eval mode."""


@hookspec
def on_validation_end(trainer: Trainer, module: TrainModule) -> None:
    """After a validation; its metrics are reduced. Still in eval mode."""


@hookspec
def on_validation_epoch_start(trainer: Trainer, module: TrainModule) -> None:
    """After ``on_validation_start``, before the first validation batch."""


@hookspec
def on_validation_epoch_end(trainer: Trainer, module: TrainModule) -> None:
    """After the last validation batch; what is logged here counts for this validation."""


@hookspec
def on_validation_batch_start(
    trainer: Trainer, module: TrainModule, batch: Batch, batch_idx: int, dataloader_idx: int
) -> None:
    """Before a validation batch, already on its device."""


@hookspec
def on_validation_batch_end(
    trainer: Trainer, module: TrainModule, outputs: Any, batch: Batch, batch_idx: int, dataloader_idx: int
) -> None:
    """After a validation batch. ``outputs`` is what ``validation_step`` returned."""


@hookspec
def on_test_start(trainer: Trainer, module: TrainModule) -> None:
    """Before a test; the module is in eval mode."""


@hookspec
def on_test_end(trainer: Trainer, module: TrainModule) -> None:
    """After a test; its metrics are reduced."""


@hookspec
def on_test_epoch_start(trainer: Trainer, module: TrainModule) -> None:
    """After ``on_test_start``, before the first test batch."""


@hookspec
def on_test_epoch_end(trainer: Trainer, module: TrainModule) -> None:
    """After the last test batch; what is logged here counts for this test."""


@hookspec
def on_test_batch_start(
    trainer: Trainer, module: TrainModule, batch: Batch, batch_idx: int, dataloader_idx: int
) -> None:
    """Before a test batch, already on its device."""


@hookspec
def on_test_batch_end(
    trainer: Trainer, module: TrainModule, outputs: Any, batch: Batch, batch_idx: int, dataloader_idx: int
) -> None:
    """After a test batch. ``outputs`` is what ``test_step`` returned."""


@hookspec
def on_predict_start(trainer: Trainer, module: TrainModule) -> None:
    """Before a prediction; the module is in eval mode."""


@hookspec
def on_predict_end(trainer: Trainer, module: TrainModule) -> None:
    """After a prediction."""


@hookspec
def on_predict_epoch_start(trainer: Trainer, module: TrainModule) -> None:
    """After ``on_predict_start``, before the first batch."""


@hookspec
def on_predict_epoch_end(trainer: Trainer, module: TrainModule) -> None:
    """After the last batch."""


@hookspec
def on_predict_batch_start(
    trainer: Trainer, module: TrainModule, batch: Batch, batch_idx: int, dataloader_idx: int
) -> None:
    """Before a batch to predict, already on its device."""


@hookspec
def on_predict_batch_end(
    trainer: Trainer, module: TrainModule, outputs: Any, batch: Batch, batch_idx: int, dataloader_idx: int
) -> None:
    """After a batch. ``outputs`` is what ``predict_step`` returned."""


# Around-hooks: generators that yield once. The work they run around is done at the yield, and the plugin that is called
# first is outermost. What a generator returns replaces the result, so one that only watches ends with `return result`.


@hookspec
def around_fit(trainer: Trainer, module: TrainModule) -> Generator[None, None, None]:
    """Around all of ``fit``, from ``on_fit_start`` to ``on_fit_end``."""


@hookspec
def around_training_step(
    trainer: Trainer, module: TrainModule, batch: Batch, batch_idx: int
) -> Generator[None, Any, Any]:
    """Around ``training_step``. The yield gives its output; return the output that the loop is to use."""


@hookspec
def around_evaluation_step(
    trainer: Trainer, module: TrainModule, batch: Batch, batch_idx: int, dataloader_idx: int
) -> Generator[None, Any, Any]:
    """Around ``validation_step``, ``test_step`` or ``predict_step``."""


@hookspec
def around_backward(trainer: Trainer, module: TrainModule, loss: Tensor) -> Generator[None, None, None]:
    """Around backward of one batch."""


@hookspec
def around_optimizer_step(
    trainer: Trainer, module: TrainModule, optimizer: torch.optim.Optimizer
) -> Generator[None, bool, bool]:
    """Around an update. The yield gives whether it was made: a gradient scaler skips one that overflowed."""


@hookspec
def around_save_checkpoint(trainer: Trainer, module: TrainModule, path: str) -> Generator[None, None, None]:
    """Around collecting and writing one checkpoint."""


# From this file itself, so that a hook is declared in one place only.
HOOKS: dict[str, tuple[str, ...]] = {
    name: tuple(inspect.signature(spec).parameters)
    for name, spec in list(globals().items())
    if hasattr(spec, f"{hookspec.project_name}_spec")
}
"""The arguments of each hook, in the order in which the hooks are declared."""

USED_RESULTS = frozenset(
    {"on_train_batch_start", "around_training_step", "around_evaluation_step", "around_optimizer_step"}
)
"""The hooks whose result the loops use. A wrapper that returned nothing would lose it."""

STEP_HOOKS = frozenset(
    {
        "around_training_step",
        "on_before_zero_grad",
        "on_before_backward",
        "around_backward",
        "on_after_backward",
        "on_before_optimizer_step",
        "around_optimizer_step",
        "on_after_optimizer_step",
    }
)
"""The hooks from the forward pass of a training batch to the end of its update, but for ``on_clip_gradients``. If no
plugin joins any of them, a loop may run forward, backward, clipping and update as one (``loops/optimize.py``)."""

MODULE_METHODS = {
    "configure_callbacks": "setup",
    "configure_gradient_clipping": "on_clip_gradients",
    "configure_model": "setup",
    "configure_optimizers": "on_fit_start",
    "on_after_batch_transfer": "on_train_batch_start",
    "on_before_batch_transfer": "on_train_batch_start",
    **{
        f"on_{kind}_model_{mode}": f"on_{kind}_{'start' if mode == 'eval' else 'end'}"
        for kind in ("validation", "test", "predict")
        for mode in ("eval", "train")
    },
    "on_validation_model_zero_grad": "on_validation_start",
    "transfer_batch_to_device": "on_train_batch_start",
}
"""Methods of a `TrainModule` that may be taken for hooks and are none, as they are called on the module alone.

Each has the hook that is nearest in time."""
