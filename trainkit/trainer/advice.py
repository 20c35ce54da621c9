"""What an error of torch or Python in the user's code most likely comes from, and what to do: said in a note on it.

The first errors of a newcomer are torch's own, from the middle of a layer. They keep type, message and traceback, and
the note says with which batch and module it happened. It costs nothing until there is an error.
"""

from __future__ import annotations

import ast
import inspect
import itertools
import re
import textwrap
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from trainkit.batch.nested import map_tensors
from trainkit.errors import TrainkitError
from trainkit.hooks.attribution import in_one_line
from trainkit.module import TrainModule
from trainkit.trainer.bind_steps import STEP_OF_PHASE
from trainkit.types import Batch, Phase


@dataclass(frozen=True, slots=True)
class Place:
    """Where an error was raised.

    Attributes:
        message: What it says.
        module: The module that runs.
        infers: Whether the module runs under ``torch.inference_mode``.
        step: The name of the module's step that was under way; None outside of one.
        batch: The batch that the step had; None outside of one.
    """

    message: str
    module: TrainModule
    infers: bool
    step: str | None
    batch: Batch


def advise(error: BaseException, module: TrainModule, *, infers: bool) -> None:
    """Note on ``error`` what to do, if it is not one of ours and looks like a common mistake.

    Args:
        error: What has ended the run.
        module: The module that ran.
        infers: Whether it ran under ``torch.inference_mode``.
    """
    if isinstance(error, TrainkitError) or not isinstance(error, Exception):
        return
    place = _place(error, module, infers)
    answers = (answer(place) for pattern, answer in _ANSWERS if re.search(pattern, place.message, re.DOTALL))
    to_do = next((answer for answer in answers if answer), None)
    if to_do is None:
        return
    if place.step is not None:
        error.add_note(f"in {type(module).__name__}.{place.step}, with the batch {describe(place.batch)}")
        error.add_note(f"    parameters   {_describe_parameters(module)}")
    error.add_note(f"    to do        {to_do}")


def describe(value: Any, depth: int = 3) -> str:
    """Return dtypes, shapes and devices of what is in a batch, such as ``[float64 (4, 3), int64 (4,)]``."""
    if isinstance(value, Tensor):
        device = "" if value.device.type == "cpu" else f" on {value.device}"
        return f"{_name(value.dtype)} {tuple(value.shape)}{device}"
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
    return Place(in_one_line(error), module, infers, step, batch if step else None)


_LOOPS = {"trainkit.loops.fit": "training_step", "trainkit.loops.evaluate": "validation_step"}
_CALL_STEPS = tuple(
    f"trainkit.{name}" for name in ("loops", "hooks.dispatch", "strategies", "module", "trainer.bind_steps")
)


def _describe_parameters(module: TrainModule) -> str:
    kinds = {f"{_name(each.dtype)} on {each.device}" for each in module.parameters()}
    return " and ".join(sorted(kinds)) or "(none)"


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


# What to do, by what the error says: the first pattern that is found in "type: message" and has an answer


def _dtype(place: Place) -> str:
    found: list[torch.dtype] = []
    map_tensors(lambda tensor: found.append(tensor.dtype), place.batch)
    own = place.module.dtype
    if torch.float64 in found and own is not torch.float64:
        return (
            "numpy and pandas make float64: convert where the data is made, x.float() or torch.tensor(x, "
            "dtype=torch.float32), or compute in float64 with Trainer(precision='64-true')"
        )
    if own is torch.float64:
        return "the module is float64: Trainer(precision='64-true') converts batches too; module.float() makes float32"
    if re.search(r"Long|Int|Byte|Char|Short|Bool", place.message):
        return "layers take floats: x.float() (x.float() / 255 for images), or torch.nn.Embedding for categories"
    return f"convert where the two meet: x.to(self.dtype), which is {_name(own)} here"


def _forward(place: Place) -> str | None:
    name = type(place.module).__name__
    return None if _returns(place.module.forward) else f"{name}.forward has no return: return what it computes"


def _returns(function: Callable[..., Any]) -> bool:
    """Whether there is a ``return`` with a value in ``function``; True where its source cannot be read."""
    try:
        tree = ast.parse(textwrap.dedent(inspect.getsource(function)))
    except (OSError, TypeError, SyntaxError):
        return True
    return any(isinstance(node, ast.Return | ast.Yield) and node.value is not None for node in ast.walk(tree))


def _gradients(place: Place) -> str:
    if place.step in (None, "training_step"):
        return (
            "nothing that requires gradients leads to what backward was called on: leave out .item(), .detach() and "
            "torch.no_grad() on the way, and look whether the parameters are frozen (requires_grad=False)"
        )
    wrap = f"wrap what needs them in {place.step} in torch.enable_grad()"
    if not place.infers:
        return f"evaluation runs without gradients: {wrap}"
    return f"evaluation runs under torch.inference_mode: {wrap}, and give Trainer(inference_mode=False)"


def _twice(place: Place) -> str:
    kept = "a tensor that is kept from one batch to the next needs .detach()"
    if not place.module.automatic_optimization:
        return f"call backward once for each forward; {kept}"
    return f"leave out loss.backward(), which the Trainer calls on what training_step returns; {kept}"


def _parameters(place: Place) -> str:
    if next(place.module.parameters(), None) is not None:
        return "pass self.parameters()"
    return (
        f"{type(place.module).__name__} has no parameters: assign layers to self in __init__, several of them in "
        "torch.nn.ModuleList or ModuleDict rather than a list or dict"
    )


def _always(text: str) -> Callable[[Place], str]:
    return lambda place: text


_SHAPES = _always(
    "a layer was made for another size: compare its arguments (in_features, in_channels) with the shapes of the batch; "
    "x.flatten(1) makes rows of images"
)
_UNPACK = _always(
    "compare what the batch is with how the step takes it apart, such as x, y = batch or batch['x']; some layers, such "
    "as LSTM, return a tuple too"
)
_ONE_SHAPE = _always(
    "prediction and label need one shape: y.unsqueeze(1) makes (N, 1) of (N,), prediction.squeeze(1) the reverse; "
    "otherwise each prediction is compared with the label of every sample"
)
_DEVICE = _always(
    "make tensors on the module's device (device=self.device), keep constants with self.register_buffer(name, tensor), "
    "and layers in torch.nn.ModuleList or ModuleDict rather than a list or dict; leave out .cuda() and .to(...)"
)

_ANSWERS: tuple[tuple[str, Callable[[Place], str | None]], ...] = (
    # Labels
    (
        r"expected target dtype|nll_loss.* not implemented for|expected scalar type Long but found",
        _always("cross_entropy takes classes as int64: y.long()"),
    ),
    (
        r"multi-target not supported|0D or 1D target",
        _always("cross_entropy takes one class per sample, of shape (N,): y.squeeze(1), or y.argmax(1) if one-hot"),
    ),
    (
        r"Target -?\d+ is out of bounds",
        _always(
            "classes are counted from 0, and the last layer needs one output for each: compare its out_features with "
            "y.max() + 1"
        ),
    ),
    (
        r"log_softmax.* not implemented for|target with class probabilities",
        _always(
            "cross_entropy takes a score for each class, without argmax, and then the labels: cross_entropy(scores, y)"
        ),
    ),
    (r"can't be cast to the desired output type Long", _always("this loss takes labels that are floats: y.float()")),
    (r"Target size .* must be the same as input size|Using a target size", _ONE_SHAPE),  # see loss_shapes.py
    # Devices, ahead of dtypes: torch says of both that they should be the same
    (r"on the same device|not on the expected device|torch\.cuda\.\w+\) and|and \w+ type \(torch\.cuda", _DEVICE),
    (
        r"device-side assert",
        _always("an index is out of range, mostly a label or a token: accelerator='cpu' names the line and the value"),
    ),
    (
        r"CUDA out of memory",
        _always("a smaller batch_size, Trainer(accumulate_grad_batches='auto'), or precision='bf16-mixed'"),
    ),
    # Dtypes
    (r"argument #1 'indices'", _always("an embedding takes whole numbers: x.long()")),
    (
        r"index out of range in self",
        _always("an embedding is too small, or an index is below 0: num_embeddings has to be x.max() + 1 or more"),
    ),
    (
        r"same dtype|should be the same|expected scalar type|expected m1 and m2|not implemented for '(Long|Int|Byte)'",
        _dtype,
    ),
    # What the batch is
    (
        r"must be Tensor, not (numpy|ndarray|Series|DataFrame)",
        _always("make tensors where the data is made: torch.tensor(x, dtype=torch.float32)"),
    ),
    (r"must be Tensor, not (list|tuple|dict|str)|values to unpack", _UNPACK),
    (r"'(list|tuple|dict)' object has no attribute", _UNPACK),
    (r"^KeyError", lambda place: _UNPACK(place) if isinstance(place.batch, Mapping) else None),
    (r"index out of range", lambda place: _UNPACK(place) if isinstance(place.batch, list | tuple) else None),
    (
        r"Boolean value of Tensor with more than one|must be Tensor, not (?!None)[A-Z]",
        _always(
            "layers and losses are made first, in __init__, and called then: torch.nn.MSELoss()(prediction, y); a "
            "condition on a tensor needs .any() or .all()"
        ),
    ),
    (
        r"between instances of '(str' and '(float|int)|(float|int)' and 'str)'",
        _always("a number was given as text, mostly an argument such as lr: float(lr)"),
    ),
    (r"\(batched\) input|Expected [234]D", _always("a dimension is missing: x.unsqueeze(1) adds one channel")),
    (
        r"more than 1 value per channel",
        _always(
            "normalization over the batch needs two samples: DataLoader(..., drop_last=True) leaves out a last one"
        ),
    ),
    (r"cannot be multiplied|size mismatch|expected input.* channels|normalized_shape", _SHAPES),
    (r"must match the size of tensor|invalid for input of size", _SHAPES),
    (r"NoneType", _forward),
    # Backward
    (r"backward through the graph a second time", _twice),
    (
        r"modified by an inplace operation",
        _always("x += y, x[i] = y and x.relu_() overwrite what backward needs: write x = x + y, or change x.clone()"),
    ),
    (r"does not require grad|[Ii]nference tensor", _gradients),
    (r"log\(\) missing 1 required", _always("self.log('train/loss', loss) logs one value, self.log_dict(...) several")),
    # Optimizers
    (r"optimizer got an empty parameter list", _parameters),
    (r"'method' object is not iterable", _always("call it: self.parameters()")),
    # Data
    (
        r"default_collate: .*NoneType",
        _always("__getitem__ of the data set has returned None: end each way through it with return"),
    ),
    (
        r"default_collate: ",
        _always("let the data set return tensors, arrays or numbers, or give the DataLoader a collate_fn"),
    ),
    (
        r"stack expects each tensor to be equal size",
        _always("samples differ in size: bring them to one in the data set, or give the DataLoader a collate_fn"),
    ),
)
