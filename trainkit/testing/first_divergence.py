"""Finds the first difference between a run that was resumed and one that never stopped, and its likely cause."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path
from typing import Any

from trainkit.checkpoint.diff import differences
from trainkit.loggers.logger import LOGGED
from trainkit.storage.files import read_checkpoint
from trainkit.testing.trace import Event, read_events
from trainkit.trainer.made_with import MADE_WITH

_NOT_RESTORED = (
    "it was changed while the run was made ready (in setup, on_fit_start or a plugin), or is not restored: what "
    "load_state_dict and on_load_checkpoint do not bring back is lost"
)
DIRPATH = "dirpath"
"""The entry by which the state of a callback is known that keeps files in the folder of its run."""

_TIMES = "time_elapsed"
"""The entry by which the state of a callback is known that measures time."""

_KERNEL = "a kernel that is not deterministic (try trainer.deterministic=true)"
# By the first word of the event that differs.
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
    f"configuration, seed=1), {_KERNEL}, something that looks at the time or asks the system for random numbers, or a "
    "file that one run leaves for the next"
)


@dataclass(frozen=True)
class Divergence:
    """The first thing that differs between two runs.

    Attributes:
        when: The place in the run, such as ``epoch 0, batch 3``.
        what: The thing that differs there, such as ``parameter layer.weight``.
        cause: The likely cause, in words.
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
        other: The folder of the other run.
        first_event: The index of the event of ``whole`` that corresponds to the first one of ``other``.
        from_the_start: Whether both runs started from the beginning, so that resuming cannot be the cause.
    """
    expected, actual = read_events(whole)[first_event:], read_events(other)
    for index, (one, two) in enumerate(zip_longest(expected, actual)):
        if one != two:
            return _explained(one, two, is_first=_same_state_so_far(expected[:index]), from_the_start=from_the_start)
    return _divergence_at_end(whole, other, from_the_start=from_the_start)


def _same_state_so_far(events: list[Event]) -> bool:
    """Whether no batch was trained in ``events``, so that the next one belongs to the state that was restored."""
    return not any(event.what == "loss" for event in events)


def _explained(one: Event | None, two: Event | None, *, is_first: bool, from_the_start: bool) -> Divergence:
    """Return the divergence of two events, of which one is None if its run has ended."""
    event = one or two
    assert event is not None
    # "validation batch" is a batch, and so has the same causes.
    kind = event.what.removeprefix("validation ").partition(" ")[0]
    is_state = kind in ("parameter", "optimizer", "buffer")
    cause = _NOT_RESTORED if is_state and is_first else _CAUSES[kind]
    what = event.what
    # Not another value but another event: something happens at another time, or not at all.
    if one is None or two is None or one.what != two.what or one.when != two.when:
        instead = "the run ended" if two is None else f"{two.what} ({two.when}) came instead"
        what = "the end" if one is None else one.what
        what = f"{what} was to come, and {instead}"
        cause = cause if is_state else _ELSEWHERE
    return Divergence(event.when, what, _FROM_THE_START if from_the_start else cause)


def _divergence_at_end(whole: Path, other: Path, *, from_the_start: bool) -> Divergence | None:
    """Compare the last checkpoints, for states that no event traces: those of callbacks, schedulers, the module."""
    one, two = (comparable(read_checkpoint(folder / "end.ckpt", map_location="cpu")) for folder in (whole, other))
    for difference in differences(one, two):
        cause = "a plugin or the module keeps state that is not restored, or that depends on the time"
        return Divergence("the end", str(difference), _FROM_THE_START if from_the_start else cause)
    return None


def comparable(checkpoint: dict[str, Any]) -> dict[str, Any]:
    """Return ``checkpoint`` without entries in which equal runs may differ: elapsed time, paths of files, and marks."""
    progress = dict(checkpoint["loops"]["fit"])
    progress.pop("elapsed_s")
    progress.pop("ended", None)  # a run that is over is not ended once more
    callbacks = {key: state for key, state in checkpoint["callbacks"].items() if not {DIRPATH, _TIMES} & state.keys()}
    own = {key: value for key, value in checkpoint["trainkit"].items() if key not in (LOGGED, MADE_WITH, "mark")}
    own["ranks"] = [{**rank, "data": _comparable_data(rank["data"], progress)} for rank in own["ranks"]]
    return {**checkpoint, "loops": {"fit": progress}, "callbacks": callbacks, "trainkit": own}


def _comparable_data(data: dict[str, Any], progress: dict[str, Any]) -> dict[str, Any]:
    """Return the state of the data without the positions of passes that are over."""
    # A run that was resumed never made the passes that ended before, so their positions differ, and nothing follows
    # from them.
    in_validation = progress["validation_loader"] or progress["validation_batch"]
    in_epoch = progress["batch"] and not progress["epoch_ended"]
    return {
        **data,
        "train": data["train"] if in_epoch else _between_passes(data["train"]),
        "val": data["val"] if in_validation else [_between_passes(loader) for loader in data["val"]],
    }


def _between_passes(loader: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the part of a loader's state that counts between passes: its own and its loader's ``state_dict``."""
    return [{key: cursor[key] for key in ("own", "loader") if key in cursor} for cursor in loader["cursors"]]
