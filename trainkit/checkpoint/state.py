"""What is in a checkpoint: one dictionary with the keys below.

`trainkit.trainer.run_state` puts it together and applies it, with the functions here; plugins may add to it in
``on_save_checkpoint``.

======================  ===============================================================================================
``epoch``               completed epochs, which is the index of the running one
``global_step``         optimizer updates so far
``state_dict``          the module's parameters and buffers
``optimizer_states``    one ``state_dict`` per optimizer
``lr_schedulers``       one ``state_dict`` per scheduler
``loops``               ``{"fit": progress}``: the cursor from which the run continues, with ``group_batches``, the
                        batches of an open accumulation group
``callbacks``           the state of each plugin that has one, by its state key
``hyper_parameters``    what ``save_hyperparameters`` collected, as far as it can be stored safely
``hparams_name``        the constructor argument that takes them all, or ``"kwargs"``
``datamodule_...``      the same two of the data module, if it has hyperparameters
``pytorch-...``         `LIGHTNING_VERSION`: lets Lightning load the weights
``trainkit``            ``format``, ``version``, ``module``, ``precision``, ``shuffle_seed``, ``flags`` (which
                        parameters are frozen and which submodules in eval mode), and of each of
                        the ``ranks``: ``metrics``, ``group`` (an open accumulation group), ``data`` (position), ``rng``
                        and ``began`` (the states of the generators before the run was first prepared, from which a
                        random split of the data is drawn again); ``hparams_left_out``, names of hyperparameters that
                        could not be stored; ``logged``, how much each logger had written
======================  ===============================================================================================
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

import trainkit
from trainkit.errors import CheckpointError

FORMAT = 2
"""Raised by one when a key changes its meaning; older formats pass through ``migrate.py``."""

LIGHTNING_VERSION = "pytorch-lightning_version"
"""The key for which Lightning looks before it loads weights, and by which a checkpoint that it wrote is known."""


def signature(module: nn.Module) -> dict[str, Any]:
    """Return the entries that identify a checkpoint of trainkit: format, version, and the class of the module."""
    return {"format": FORMAT, "version": trainkit.__version__, "module": type(module).__qualname__}


def collect_plugins(plugins: Iterable[tuple[str, Any]]) -> dict[str, Any]:
    """Return the state of every plugin that has one, by its state key; an empty state is left out."""
    states = {state_key(name, plugin): plugin.state_dict() for name, plugin in plugins if has_state(plugin)}
    return {key: state for key, state in states.items() if state}


def restore_plugins(plugins: Iterable[tuple[str, Any]], states: Mapping[str, Any]) -> list[str]:
    """Restore the state of every plugin; return the keys of states that belong to no plugin of this run."""
    # A plugin without a state in the checkpoint is new in this run, and starts as it was made.
    left = dict(states)
    for name, plugin in plugins:
        if has_state(plugin) and (state := left.pop(state_key(name, plugin), None)) is not None:
            plugin.load_state_dict(state)
    return list(left)


def has_state(plugin: Any) -> bool:
    """Return whether a plugin has a state to be saved."""
    # The TrainModule is a plugin too; its weights are under ``state_dict`` already.
    return hasattr(plugin, "state_dict") and hasattr(plugin, "load_state_dict") and not isinstance(plugin, nn.Module)


def state_key(name: str, plugin: Any) -> str:
    """Return the key under which a plugin's state is saved: its ``state_key``, or the name of the plugin."""
    return getattr(plugin, "state_key", None) or name


def restore_optimizers(optimizers: list[Any], states: list[Any], path: str, *, keep_dtypes: bool = False) -> None:
    """Load the state of each optimizer or scheduler.

    Args:
        optimizers: The optimizers, or the schedulers, of this run.
        states: Their states in the checkpoint, in the same order.
        path: The file, for the error.
        keep_dtypes: Whether states have the dtypes that they were saved with; otherwise those of the parameters now.

    Raises:
        CheckpointError: If the numbers or the parameter groups differ.
    """
    if len(optimizers) != len(states):
        raise CheckpointError(
            f"{path} holds {len(states)} states of optimizers or schedulers, and configure_optimizers gave "
            f"{len(optimizers)}. Resume with the module it was trained with, or load only the weights "
            "(module.load_from_checkpoint)."
        )
    for optimizer, state in zip(optimizers, states, strict=True):
        try:
            optimizer.load_state_dict(state)
        except ValueError as error:
            raise CheckpointError(f"{path}: the state of {type(optimizer).__name__} does not fit: {error}") from error
        if keep_dtypes:
            _put_back_dtypes(optimizer, state)


def _put_back_dtypes(optimizer: torch.optim.Optimizer, state: dict[str, Any]) -> None:
    """Undo that torch casts all that it loads, but counters of steps, to the dtype of the parameter."""
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    numbers = [number for group in state["param_groups"] for number in group["params"]]
    for parameter, number in zip(parameters, numbers, strict=True):
        loaded = optimizer.state.get(parameter, {})
        for name, saved in state["state"].get(number, {}).items():
            # Such as the float32 scalars of ASGD and NAdam, beside parameters in bfloat16.
            if isinstance(saved, Tensor) and saved.dtype != loaded[name].dtype:
                loaded[name] = saved.to(loaded[name].device, copy=True)


def is_resumable(checkpoint: Mapping[str, Any]) -> bool:
    """Return whether a fit can continue from ``checkpoint``: it holds more than weights, in trainkit's format."""
    return not _missing(checkpoint)


def require_training_state(checkpoint: Mapping[str, Any], path: str) -> None:
    """Raise `CheckpointError` if a fit cannot continue from ``checkpoint``."""
    missing = _missing(checkpoint)
    if missing:
        raise CheckpointError(
            f"{path} holds weights only (there is no {', '.join(missing)}), so a fit cannot continue from it. To start "
            "a new fit from its weights, use the module's load_from_checkpoint."
        )


def _missing(checkpoint: Mapping[str, Any]) -> list[str]:
    """Return the keys that a fit needs in order to continue, and that ``checkpoint`` lacks."""
    needed = ("optimizer_states", "lr_schedulers", "loops", "callbacks", "trainkit")
    return [key for key in needed if key not in checkpoint]
