"""Weights in a checkpoint beside ``state_dict``: averages of them, and the newest where ``state_dict`` is an average.

A plugin that averages keeps its average in its own state, as `AVERAGE`: weights by the names that they have in the
module. Where an average is what the run is evaluated with, ``state_dict`` is that one, and the newest weights are
`NEWEST`.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor

from trainkit.hooks.bound import Hook
from trainkit.output import warn
from trainkit.storage.tensors import bounds

AVERAGE = "average"
NEWEST = "current_model_state"
AVERAGING_STATE = "averaging_state"
"""Where Lightning has ``n_averaged``. It is written for Lightning; read are files of it, and those of earlier versions,
in which the callback's own state has no `AVERAGE`."""


def load_newest(checkpoint: dict[str, Any], on_load_checkpoint: Hook[[dict[str, Any]]]) -> None:
    """Make the newest weights the ``state_dict``, and let ``on_load_checkpoint`` change them, and each average alike.

    The hook is called for each average with a copy of the checkpoint whose ``state_dict`` is the average, so that what
    it does to other entries is done once; then for the newest weights with the checkpoint itself.
    """
    _give_to_its_callback(checkpoint)
    checkpoint["state_dict"] = checkpoint.pop(NEWEST, checkpoint["state_dict"])
    for state in checkpoint.get("callbacks", {}).values():
        if on_load_checkpoint and _has_average(state, checkpoint["state_dict"]):
            view = copy.deepcopy(checkpoint)
            # An average of parameters alone is completed with the buffers, which a hook may look for.
            view["state_dict"] |= copy.deepcopy(state[AVERAGE])
            on_load_checkpoint(view)
            state[AVERAGE] = view["state_dict"]
    on_load_checkpoint(checkpoint)


def warn_of_idle_averages(left: Iterable[str], states: Mapping[str, Any], weights: Mapping[str, Any]) -> None:
    """Say which averages are not updated, because their state belongs to no plugin of this run."""
    for key in left:
        if _has_average(states[key], weights):
            warn(
                f"the checkpoint has an average of weights, that of {key}, which is not among the callbacks of this "
                "run: training goes on from the newest weights, and the average is not updated any more. Add the "
                "callback again, or, to train on from the average, load it with the module's load_from_checkpoint."
            )


def warn_of_lost_numbers(average: Mapping[str, Any], newest: Mapping[str, Any]) -> None:
    """Say that an average is not finite, where the weights that it is an average of are."""
    lost = [name for name, value in average.items() if name in newest and not _is_finite(value)]
    if lost and all(map(_is_finite, newest.values())):
        warn(
            f"the average of weights in the checkpoint holds NaN or infinite numbers ({', '.join(lost[:5])}), and will "
            "do so to the end; the newest weights do not. Go on from an older checkpoint, or without the callback."
        )


def _is_finite(value: Any) -> bool:
    # Of a sparse tensor, or one of another kind, nothing is said.
    is_dense = isinstance(value, Tensor) and value.layout is torch.strided and not value.is_quantized
    return not is_dense or all(map(math.isfinite, bounds(value)))


def _has_average(state: Any, weights: Mapping[str, Any]) -> bool:
    average = state.get(AVERAGE) if isinstance(state, Mapping) else None
    return isinstance(average, Mapping) and bool(average) and average.keys() <= weights.keys()


def _give_to_its_callback(checkpoint: dict[str, Any]) -> None:
    """Put the average of an older file into the state of the callback that keeps it."""
    if NEWEST in checkpoint and AVERAGING_STATE in checkpoint:
        for state in checkpoint.get("callbacks", {}).values():
            if isinstance(state, dict) and "latest_update_step" in state and AVERAGE not in state:
                state |= {AVERAGE: checkpoint["state_dict"], **checkpoint[AVERAGING_STATE]}
