"""Where a rank stands, found in the frames of its thread: whether it waits for other ranks, and in whose hook."""

from __future__ import annotations

import traceback
from collections.abc import Iterator
from pathlib import Path
from types import FrameType
from typing import NamedTuple

from trainkit.hooks.specs import HOOKS
from trainkit.reflection import is_ours

STEPS = {"training_step", "validation_step", "test_step", "predict_step", "optimizer_step", "configure_optimizers"}
"""Methods of a module that are named as hooks are."""

GRADIENTS = "waits for the gradients of the others"
AHEAD = "waits in DistributedDataParallel, ahead of a step"

PARAMETERS = "waits for the parts of the others"

BACKWARD = "_engine_run_backward"
"""Torch's function beneath every backward."""

AVERAGES = "trainkit.strategies.flat_gradients"
"""Where ranks average gradients behind a backward, and wait for it beneath Python."""

WRAPPER = "torch.nn.parallel.distributed"
"""Where torch's wrapper is, which exchanges ahead of a step, too."""


class Place(NamedTuple):
    """Where a rank stands.

    Attributes:
        waits: Whether it waits for other ranks: in a collective, or in a backward that exchanges gradients.
        text: What it does, and in which hook of which plugin.
    """

    waits: bool
    text: str


def place_of(frame: FrameType | None, *, exchanges: bool) -> Place:
    """Return the place of a thread.

    Args:
        frame: The innermost frame of the thread; None if it has none.
        exchanges: Whether ranks exchange gradients in the backward that may be running.
    """
    frames = list(_outwards(frame))
    names = [str(each.f_globals.get("__name__")) for each in frames]
    # Decorators and the wait itself stand within the collective that was called.
    in_collective = any(name in _WAITS_OF_TORCH | _OWN_WAITS for name in names[:4])
    # It makes its buckets anew, and gives all ranks the buffers of rank 0, ahead of a step, beneath Python.
    in_wrapper = names[:1] == [WRAPPER]
    in_backward = any(each.f_code.co_name == BACKWARD for each in frames[:2])
    if (in_backward and exchanges) or names[:1] == [AVERAGES]:
        return Place(True, f"{GRADIENTS}{_caller(frames)}")
    if in_collective and any(name.startswith("torch.distributed.fsdp.") for name in names):
        return Place(True, f"{PARAMETERS}{_caller(frames)}")
    if in_collective:
        return Place(True, f"waits in {_entered(frames, names)}{_caller(frames)}")
    if in_wrapper:
        return Place(True, f"{AHEAD}{_caller(frames)}")
    return Place(False, f"is busy{_caller(frames)}")


def waits_for_ranks(frame: FrameType | None) -> bool:
    """Whether ``frame`` is that of a wait of trainkit's own for other ranks, which an exception may end."""
    return any(each.f_globals.get("__name__") in _OWN_WAITS for each in list(_outwards(frame))[:4])


def caller_of(frame: FrameType | None) -> str:
    """Return who runs ``frame``: the innermost hook of a plugin and the innermost line of the user; may be empty."""
    return _caller(list(_outwards(frame)))


def raiser_of(error: BaseException) -> str:
    """Return in whose hook, and at which line of the user, ``error`` was raised; may be empty."""
    return _caller([frame for frame, _ in traceback.walk_tb(error.__traceback__)][::-1])


_OWN_WAITS = {"trainkit.strategies.ranks.rank_watch"}
_WAITS_OF_TORCH = {"torch.distributed.distributed_c10d", "torch.distributed._functional_collectives"}


def _outwards(frame: FrameType | None) -> Iterator[FrameType]:
    while frame is not None:
        yield frame
        frame = frame.f_back


def _entered(frames: list[FrameType], names: list[str]) -> str:
    """Return the function that was called to wait: that of trainkit which a user's line, or a loop, has called."""
    entered = ""
    for frame, name in zip(frames, names, strict=True):
        if name.startswith("torch.") and frame.f_code.co_name != "wrapper":  # torch wraps its collectives
            entered = f"torch.distributed.{frame.f_code.co_name}"
        elif is_ours(frame) and not name.startswith(("trainkit.hooks.", "trainkit.loops.")) and not _is_hook(frame):
            entered = frame.f_code.co_qualname
        elif not name.startswith("torch."):
            break
    return _short(entered)


def _caller(frames: list[FrameType]) -> str:
    """Return who is running: the innermost hook of a plugin, else the innermost line of the user."""
    line = next((f" (at {_at(each)})" for each in frames if not _is_library(each)), "")
    hook = next((each for each in frames if _is_hook(each)), None)
    return f", in {_short(hook.f_code.co_qualname)}{line}" if hook is not None else line


def _short(qualname: str) -> str:
    return qualname.rpartition("<locals>.")[2]


def _is_hook(frame: FrameType) -> bool:
    name = str(frame.f_globals.get("__name__"))
    return frame.f_code.co_name in HOOKS.keys() | STEPS and not name.startswith(("trainkit.hooks.", "trainkit.loops."))


def _is_library(frame: FrameType) -> bool:
    name = str(frame.f_globals.get("__name__"))
    return is_ours(frame) or name.startswith(("torch.", "threading", "contextlib", "pluggy"))


def _at(frame: FrameType) -> str:
    return f"{Path(frame.f_code.co_filename).name}:{frame.f_lineno}"
