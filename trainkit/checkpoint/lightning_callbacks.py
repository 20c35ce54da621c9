"""What Lightning's callbacks remember, in the words of trainkit's, where the two differ."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

State = dict[str, Any]


def callbacks_from_lightning(checkpoint: State) -> State:
    """Return the entries of a checkpoint of Lightning that its callbacks wrote, as those of trainkit write them."""
    own: State = {"callbacks": {key: _converted(state) for key, state in checkpoint.get("callbacks", {}).items()}}
    if any(state.get("scheduler_state") for state in checkpoint.get("callbacks", {}).values()):
        own["lr_schedulers"] = []  # that of weight averaging took their place, and is kept by the callback
    return own


def _converted(state: State) -> State:
    for key, convert in _BY_KEY.items():
        if key in state:
            return convert(state)
    return state


def _timer(state: State) -> State:
    elapsed = state["time_elapsed"]
    return {"time_elapsed": elapsed["train"]} if isinstance(elapsed, dict) else state


def _finetuning(state: State) -> State:
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
"""How a state is converted, by a key that it has: users may have given the class another name."""
