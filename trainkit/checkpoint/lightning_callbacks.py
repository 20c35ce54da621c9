"""Converting the states of Lightning's callbacks into those of trainkit's, where the two differ."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

State = dict[str, Any]


def callbacks_from_lightning(checkpoint: State) -> State:
    """Return the entries of a Lightning checkpoint that its callbacks wrote, in trainkit's format."""
    own: State = {"callbacks": {key: _converted(state) for key, state in checkpoint.get("callbacks", {}).items()}}
    if any(state.get("scheduler_state") for state in checkpoint.get("callbacks", {}).values()):
        # Stochastic weight averaging replaced the scheduler of the fit by its own. In trainkit the callback keeps that.
        own["lr_schedulers"] = []
    return own


def _converted(state: State) -> State:
    """Return the state of one callback in trainkit's format; itself where both use the same."""
    for key, convert in _BY_KEY.items():
        if key in state:
            return convert(state)
    return state


def _timer(state: State) -> State:
    # Lightning's Timer keeps a time for each stage; trainkit's keeps that of training.
    elapsed = state["time_elapsed"]
    return {"time_elapsed": elapsed["train"]} if isinstance(elapsed, dict) else state


def _finetuning(state: State) -> State:
    # By index of the optimizer: its parameter groups, with the names of their parameters. All that are in an optimizer
    # are trained.
    optimizers = state["internal_optimizer_metadata"]
    groups = [[list(group["params"]) for group in optimizers[index]] for index in sorted(optimizers)]
    trained = [name for optimizer in groups for group in optimizer for name in group]
    kept = {key: value for key, value in state.items() if key != "internal_optimizer_metadata"}
    return kept | {"finetuning": {"trained": trained, "fixed_statistics": [], "groups": groups}}


def _weight_averaging(state: State) -> State:
    return {
        "count": state["n_averaged"],
        "average": dict(state["average_model_state"] or {}) if state["n_averaged"] else {},
        "scheduler": state["scheduler_state"],
    }


_BY_KEY: dict[str, Callable[[State], State]] = {
    "time_elapsed": _timer,
    "internal_optimizer_metadata": _finetuning,
    "average_model_state": _weight_averaging,
}
"""The function that converts a state, by a key that such a state has: users may have given the class another name."""
