"""Where a run that was continued parts from the one that never stopped, and what the cause may be."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path
from typing import Any

from trainkit.checkpoint.diff import differences
from trainkit.loggers.logger import LOGGED
from trainkit.storage.files import read_checkpoint
from trainkit.testing.trace import Event, read_events

_NOT_RESTORED = (
    "it was changed while the run was made ready (in setup, on_fit_start or a plugin), or is not restored: what "
    "load_state_dict and on_load_checkpoint do not bring back is lost"
)
DIRPATH = "dirpath"
"""In the state of callbacks that keep files in the folder of their run."""

_KERNEL = "a kernel that is not deterministic (try trainer.deterministic=true)"
_CAUSES = {
    "parameter": f"the update depends on something that no checkpoint holds, or on {_KERNEL}",
    "optimizer": f"the update depends on something that no checkpoint holds, or on {_KERNEL}",
    "buffer": f"forward changes it by something that no checkpoint holds, or by {_KERNEL}",
    "random": "something drew random numbers in one run only: what draws once in a process, such as at the first batch "
    "it sees, or what looks at the time",
    "batch": "the dataset, its transforms or the sampler keep state of their own: a counter, a cache, or a generator "
    "that is not torch's, numpy's or random's global one. Give it state_dict and load_state_dict, or let it draw from "
    "a global one",
    "loss": f"training_step depends on an attribute that is neither parameter nor buffer, or on {_KERNEL}. Make it a "
    "buffer (self.register_buffer), or bring it back in on_load_checkpoint",
    "logged": "what is logged depends on something that no checkpoint holds, such as the time or a counter of a plugin",
}
_ELSEWHERE = "batches, validations or rows fall due elsewhere: by the time, or by a counter that is not restored"
_FROM_THE_START = (
    "two runs from the same start are not the same either, so this has nothing to do with resuming: no seed (in a "
    f"configuration, seed=1), {_KERNEL}, or something that looks at the time or asks the system for random numbers"
)


@dataclass(frozen=True)
class Divergence:
    """The first thing that differs between two runs.

    Attributes:
        when: The place in the run.
        what: What differs there.
        cause: What the cause may be.
    """

    when: str
    what: str
    cause: str


def first_divergence(
    whole: Path, other: Path, first_event: int = 0, *, from_the_start: bool = False
) -> Divergence | None:
    """Return the first thing that differs between two traced runs; None if nothing does.

    Args:
        whole: The folder of the run that never stopped.
        other: That of the other run.
        first_event: How many events of ``whole`` lie before those of ``other``.
        from_the_start: Whether both began at the beginning.
    """
    expected, actual = read_events(whole)[first_event:], read_events(other)
    for index, (one, two) in enumerate(zip_longest(expected, actual)):
        if one != two:
            return _explained(one, two, is_first=_same_state_so_far(expected[:index]), from_the_start=from_the_start)
    return _of_end(whole, other, from_the_start=from_the_start)


def _same_state_so_far(events: list[Event]) -> bool:
    """Whether nothing has been trained yet when the event behind ``events`` came."""
    return not any(event.what == "loss" for event in events)


def _explained(one: Event | None, two: Event | None, *, is_first: bool, from_the_start: bool) -> Divergence:
    event = one or two
    assert event is not None
    kind = event.what.removeprefix("validation ").partition(" ")[0]
    is_state = kind in ("parameter", "optimizer", "buffer")
    cause = _NOT_RESTORED if is_state and is_first else _CAUSES[kind]
    what = event.what
    if one is None or two is None or one.what != two.what or one.when != two.when:
        instead = "the run ended" if two is None else f"{two.what} ({two.when}) came instead"
        what = "the end" if one is None else one.what
        what = f"{what} was to come, and {instead}"
        cause = cause if is_state else _ELSEWHERE
    return Divergence(event.when, what, _FROM_THE_START if from_the_start else cause)


def _of_end(whole: Path, other: Path, *, from_the_start: bool) -> Divergence | None:
    one, two = (comparable(read_checkpoint(folder / "end.ckpt", map_location="cpu")) for folder in (whole, other))
    for difference in differences(one, two):
        cause = "a plugin or the module keeps state that is not restored, or that depends on the time"
        return Divergence("the end", str(difference), _FROM_THE_START if from_the_start else cause)
    return None


def comparable(checkpoint: dict[str, Any]) -> dict[str, Any]:
    """Return ``checkpoint`` without what equal runs need not have in common: the time, and where their files are."""
    progress = dict(checkpoint["loops"]["fit"])
    progress.pop("elapsed_s")
    callbacks = {key: state for key, state in checkpoint["callbacks"].items() if DIRPATH not in state}
    own = {key: value for key, value in checkpoint["trainkit"].items() if key != LOGGED}
    own["ranks"] = [{**rank, "data": _comparable_data(rank["data"], progress)} for rank in own["ranks"]]
    return {**checkpoint, "loops": {"fit": progress}, "callbacks": callbacks, "trainkit": own}


def _comparable_data(data: dict[str, Any], progress: dict[str, Any]) -> dict[str, Any]:
    """Leave out where passes stood that are over: it tells nothing of what comes."""
    in_validation = progress["validation_loader"] or progress["validation_batch"]
    return {
        **data,
        "train": data["train"] if progress["batch"] else _between_passes(data["train"]),
        "val": data["val"] if in_validation else [_between_passes(loader) for loader in data["val"]],
    }


def _between_passes(loader: dict[str, Any]) -> list[dict[str, Any]]:
    return [{key: cursor[key] for key in ("own", "loader") if key in cursor} for cursor in loader["cursors"]]
