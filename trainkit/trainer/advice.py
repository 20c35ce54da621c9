"""What an error of torch or Python in the user's code most likely comes from, and what to do: said in a note on it.

The first errors of a newcomer are torch's own, from the middle of a layer. They keep type, message and traceback, and
the note says with which batch and module it happened. It costs nothing until there is an error.
"""

from __future__ import annotations

import dis
import itertools
import linecache
import re
import traceback
from collections.abc import Mapping
from types import TracebackType
from typing import Any

from torch import Tensor

from trainkit.errors import TrainkitError, note_on
from trainkit.hooks.attribution import in_one_line
from trainkit.module import TrainModule
from trainkit.trainer.bind_steps import STEP_OF_PHASE
from trainkit.trainer.common_mistakes import Place, name_of, what_to_do
from trainkit.types import Batch, Phase


def advise(error: BaseException, module: TrainModule, *, infers: bool) -> None:
    """Note on ``error`` what to do, if it is not one of ours and looks like a common mistake.

    Args:
        error: What has ended the run.
        module: The module that ran.
        infers: Whether it ran under ``torch.inference_mode``.
    """
    if isinstance(error, TrainkitError) or not isinstance(error, Exception):
        return
    # What the user's code says itself says what it means, whatever words it has in common with torch.
    raised = _innermost(error)
    if raised is not None and not _is_in_torch(raised) and _is_raise(raised):
        return
    place = _place(error, module, infers)
    to_do = what_to_do(place)
    if to_do is None:
        return
    if place.step is not None:
        note_on(error, f"in {type(module).__name__}.{place.step}, with the batch {describe(place.batch)}")
        note_on(error, f"    parameters   {_describe_parameters(module)}")
    note_on(error, f"    to do        {to_do}")


def describe(value: Any, depth: int = 3) -> str:
    """Return dtypes, shapes and devices of what is in a batch, such as ``[float64 (4, 3), int64 (4,)]``."""
    if isinstance(value, Tensor):
        device = "" if value.device.type == "cpu" else f" on {value.device}"
        return f"{name_of(value.dtype)} {tuple(value.shape)}{device}"
    if isinstance(value, Mapping | list | tuple) and depth:
        keyed = isinstance(value, Mapping)
        some = list(itertools.islice(value, 6))
        items = [f"{key!r}: {describe(value[key], depth - 1)}" if keyed else describe(key, depth - 1) for key in some]
        text = ", ".join([*items, *(["..."] if len(value) > len(some) else [])])
        return f"{{{text}}}" if keyed else f"[{text}]"
    kind, shape = type(value).__name__, getattr(value, "shape", None)
    return kind if shape is None else f"{kind} of {getattr(value, 'dtype', '?')} {tuple(shape)}"


def _place(error: Exception, module: TrainModule, infers: bool) -> Place:
    """Find the step and the batch in the traceback: nothing else keeps them once a loop has ended."""
    batch, running, step, caller = None, None, None, ""
    for frame, _ in traceback.walk_tb(error.__traceback__):
        name = frame.f_globals.get("__name__", "")
        if name in _LOOPS and "batch" in frame.f_locals:
            batch = frame.f_locals["batch"]
            running = STEP_OF_PHASE.get(frame.f_locals.get("phase", Phase.TRAIN), _LOOPS[name])
        # Whatever the function is called that the user has made a step; hooks are called from there too.
        is_called = caller.startswith(_CALL_STEPS) and not frame.f_code.co_name.startswith("on_")
        if running and is_called and any(each is module for each in frame.f_locals.values()):
            step = running
        caller = name
    raised = _innermost(error)
    return Place(
        error=error,
        message=in_one_line(error),
        module=module,
        infers=infers,
        step=step,
        batch=batch if step else None,
        is_in_torch=raised is not None and _is_in_torch(raised),
        takes_batch=step is not None and raised is not None and _takes_apart(raised, error, batch),
    )


def _innermost(error: Exception) -> TracebackType | None:
    """Return where ``error`` was raised; None if it was not."""
    raised = error.__traceback__
    while raised is not None and raised.tb_next is not None:
        raised = raised.tb_next
    return raised


def _is_in_torch(raised: TracebackType) -> bool:
    return str(raised.tb_frame.f_globals.get("__name__")).partition(".")[0] == "torch"


def _is_raise(raised: TracebackType) -> bool:
    """Whether it is a ``raise`` or ``assert``, and no call into C that failed."""
    return dis.opname[raised.tb_frame.f_code.co_code[raised.tb_lasti]] == "RAISE_VARARGS"


def _takes_apart(raised: TracebackType, error: Exception, batch: Batch) -> bool:
    """Whether the code that failed names a variable that is ``batch``, or a container in it."""
    code = traceback.extract_tb(raised, 1)[0]
    text = linecache.getline(code.filename, code.lineno or 0)
    # Of `x, y = batch` Python points at the variables, and at what was read of anything else.
    if not isinstance(error, ValueError) and code.lineno == code.end_lineno:
        text = text.encode()[code.colno : code.end_colno].decode()
    parts = batch.values() if isinstance(batch, Mapping) else batch if isinstance(batch, list | tuple) else ()
    containers = [batch, *(each for each in parts if isinstance(each, Mapping | list | tuple))]
    named = [raised.tb_frame.f_locals.get(name) for name in re.findall(r"\w+", text)]
    return any(value is each for value in named if value is not None for each in containers)


_LOOPS = {"trainkit.loops.fit": "training_step", "trainkit.loops.evaluate": "validation_step"}
_CALL_STEPS = tuple(
    f"trainkit.{name}" for name in ("loops", "hooks.dispatch", "strategies", "module", "trainer.bind_steps")
)


def _describe_parameters(module: TrainModule) -> str:
    kinds = {f"{name_of(each.dtype)} on {each.device}" for each in module.parameters()}
    return " and ".join(sorted(kinds)) or "(none)"
