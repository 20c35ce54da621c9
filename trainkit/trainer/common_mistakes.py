"""The common mistakes of whoever writes a module: how torch or Python tells of each, and what to do about it."""

from __future__ import annotations

import ast
import inspect
import math
import re
import textwrap
import traceback
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from enum import Enum, auto
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from trainkit.batch.nested import map_tensors
from trainkit.errors import NotAttachedError
from trainkit.module import TrainModule
from trainkit.reflection import overrides
from trainkit.types import Batch


@dataclass(frozen=True, slots=True)
class Place:
    """Where an error was raised.

    Attributes:
        error: The error.
        message: Its type and what it says.
        module: The module that runs.
        infers: Whether the module runs under ``torch.inference_mode``.
        step: The name of the module's step that was under way; None outside of one.
        batch: The batch that the step had; None outside of one.
        is_in_torch: Whether it was raised in a file of torch.
        takes_batch: Whether it was raised where the batch, or a container in it, is taken apart.
    """

    error: Exception
    message: str
    module: TrainModule
    infers: bool
    step: str | None
    batch: Batch
    is_in_torch: bool
    takes_batch: bool


def what_to_do(place: Place) -> str | None:
    """Return what to do about the first mistake that the error is known to come from; None if it is not known."""
    answers = (mistake.answer(place) for mistake in _MISTAKES if _fits(mistake, place))
    return next((answer for answer in answers if answer), None)


def name_of(dtype: torch.dtype) -> str:
    """Return the name of ``dtype`` without its package."""
    return str(dtype).removeprefix("torch.")


class _Where(Enum):
    """Where an error has to be raised to come from a mistake; what torch's own code says is clear anywhere."""

    ANYWHERE = auto()
    STEP = auto()
    TORCH = auto()
    LOADER = auto()


class _Mistake(NamedTuple):
    """How an error looks that comes from a mistake, and what to do, which may be None where it was another one."""

    kinds: type[Exception] | tuple[type[Exception], ...]
    pattern: str
    answer: Callable[[Place], str | None]
    where: _Where = _Where.ANYWHERE


def _fits(mistake: _Mistake, place: Place) -> bool:
    # An error of a worker ends with its whole traceback, in which words of the user's code are.
    is_of_worker = "in DataLoader worker process" in place.message
    is_there = {
        _Where.ANYWHERE: not is_of_worker,
        _Where.STEP: place.step is not None,
        _Where.TORCH: place.is_in_torch and not is_of_worker,
        _Where.LOADER: True,
    }
    is_alike = isinstance(place.error, mistake.kinds) and re.search(mistake.pattern, place.message, re.DOTALL)
    return bool(is_alike) and is_there[mistake.where]


# What to do


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
    return f"convert where the two meet: x.to(self.dtype), which is {name_of(own)} here"


def _forward(place: Place) -> str | None:
    name = type(place.module).__name__
    if not overrides(place.module, "forward", nn.Module) or _returns(place.module.forward):
        return None
    return f"{name}.forward has no return: return what it computes"


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


_UNPACK = (
    "compare what the batch is with how the step takes it apart, such as x, y = batch or batch['x']; some layers, such "
    "as LSTM, return a tuple too"
)


def _unpack(place: Place) -> str | None:
    return _UNPACK if place.takes_batch else None


def _swapped(place: Place) -> str | None:
    """Answer where a step takes the index of the batch apart, whatever its arguments are called."""
    frames = [frame for frame, _ in traceback.walk_tb(place.error.__traceback__)]
    step = getattr(place.module, place.step or "", None)
    if step is None or frames[-1].f_code is not getattr(step, "__code__", None):
        return None
    names = list(inspect.signature(step).parameters)
    if len(names) < 2 or type(frames[-1].f_locals.get(names[1])) is not int:
        return None
    return (
        f"{place.step} gets the batch first, and then its index: def {place.step}(self, batch, batch_idx). Here "
        f"{names[1]!r} is the index"
    )


def _endless(place: Place) -> str | None:
    """Answer where a schedule is given the number of updates of a fit that has no bound."""
    with suppress(NotAttachedError):
        if not math.isinf(place.module.trainer.estimated_stepping_batches):
            return None
    return (
        "trainer.estimated_stepping_batches is infinite, as nothing bounds this fit: say Trainer(max_steps=...), or "
        "max_epochs with a loader that knows its length"
    )


def _attribute(place: Place) -> str | None:
    owner = getattr(place.error, "obj", None)
    is_output = isinstance(owner, list | tuple) and any(isinstance(each, Tensor) for each in owner)
    return _UNPACK if is_output or place.takes_batch else None


# The first one that fits and has an answer counts

_MISTAKES = (
    # Labels
    _Mistake(
        RuntimeError,
        r"expected target dtype|nll_loss.* not implemented for|expected scalar type Long but found",
        _always("cross_entropy takes classes as int64: y.long()"),
    ),
    _Mistake(
        RuntimeError,
        r"multi-target not supported|0D or 1D target",
        _always("cross_entropy takes one class per sample, of shape (N,): y.squeeze(1), or y.argmax(1) if one-hot"),
    ),
    _Mistake(
        IndexError,
        r"Target -?\d+ is out of bounds",
        _always(
            "classes are counted from 0, and the last layer needs one output for each: compare its out_features with "
            "y.max() + 1"
        ),
    ),
    _Mistake(
        RuntimeError,
        r"log_softmax.* not implemented for|target with class probabilities",
        _always(
            "cross_entropy takes a score for each class, without argmax, and then the labels: cross_entropy(scores, y)"
        ),
    ),
    _Mistake(
        RuntimeError,
        r"can't be cast to the desired output type Long",
        _always("this loss takes labels that are floats: y.float()"),
    ),
    # Those of mse_loss and its like are warnings, of which loss_shapes.py makes errors.
    _Mistake(
        (ValueError, UserWarning),
        r"Target size .* must be the same as input size|Using a target size",
        _always(
            "prediction and label need one shape: y.unsqueeze(1) makes (N, 1) of (N,), prediction.squeeze(1) the "
            "reverse; otherwise each prediction is compared with the label of every sample"
        ),
    ),
    # Devices, ahead of dtypes: torch says of both that they should be the same
    _Mistake(
        RuntimeError,
        r"on the same device|not on the expected device|torch\.cuda\.\w+\) and|and \w+ type \(torch\.cuda",
        _always(
            "make tensors on the module's device (device=self.device), keep constants with "
            "self.register_buffer(name, tensor), and layers in torch.nn.ModuleList or ModuleDict rather than a list or "
            "dict; leave out .cuda() and .to(...)"
        ),
    ),
    _Mistake(
        RuntimeError,
        r"device-side assert",
        _always("an index is out of range, mostly a label or a token: accelerator='cpu' names the line and the value"),
    ),
    _Mistake(
        RuntimeError,
        r"CUDA out of memory",
        _always("a smaller batch_size, Trainer(accumulate_grad_batches='auto'), or precision='bf16-mixed'"),
    ),
    # Parts, ahead of dtypes too
    _Mistake(
        RuntimeError,
        r"got mixed torch\.Tensor and DTensor",
        _always(
            "fsdp has dealt the parameters out, and a unit is whole while it computes: use its weights within its own "
            "forward, or choose another FSDP(wrap_policy=...); elsewhere each.full_tensor(), on all ranks, is the "
            "whole, and what is added to parameters, such as noise, is torch.randn_like(each)"
        ),
    ),
    # Dtypes
    _Mistake(RuntimeError, r"argument #1 'indices'", _always("an embedding takes whole numbers: x.long()")),
    _Mistake(
        IndexError,
        r"index out of range in self",
        _always("an embedding is too small, or an index is below 0: num_embeddings has to be x.max() + 1 or more"),
    ),
    _Mistake(
        RuntimeError,
        r"same dtype|should be the same|expected scalar type|expected m1 and m2|not implemented for '(Long|Int|Byte)'",
        _dtype,
    ),
    # What the batch is
    _Mistake(
        TypeError,
        r"must be Tensor, not (numpy|ndarray|Series|DataFrame)",
        _always("make tensors where the data is made: torch.tensor(x, dtype=torch.float32)"),
    ),
    _Mistake(TypeError, r"must be Tensor, not (list|tuple|dict|str)", _always(_UNPACK), _Where.STEP),
    _Mistake(ValueError, r"values to unpack", _unpack, _Where.STEP),
    _Mistake(TypeError, r"indices must be integers or slices, not str|invalid data type 'str'", _unpack, _Where.STEP),
    _Mistake(TypeError, r"cannot unpack non-iterable int|'int' object is not", _swapped, _Where.STEP),
    _Mistake(AttributeError, r"'(list|tuple|dict)' object has no attribute", _attribute, _Where.STEP),
    _Mistake(KeyError, "", _unpack, _Where.STEP),
    _Mistake(IndexError, r"index out of range", _unpack, _Where.STEP),
    _Mistake(
        (RuntimeError, TypeError),
        r"Boolean value of Tensor with more than one|must be Tensor, not (?!None)[A-Z]",
        _always(
            "layers and losses are made first, in __init__, and called then: torch.nn.MSELoss()(prediction, y); a "
            "condition on a tensor needs .any() or .all()"
        ),
    ),
    _Mistake(
        TypeError,
        r"between instances of '(str' and '(float|int)|(float|int)' and 'str)'",
        _always("a number was given as text, mostly an argument such as lr: float(lr)"),
        _Where.TORCH,
    ),
    _Mistake(
        (RuntimeError, ValueError),
        r"\(batched\) input|Expected [234]D",
        _always("a dimension is missing: x.unsqueeze(1) adds one channel"),
        _Where.STEP,
    ),
    _Mistake(
        ValueError,
        r"more than 1 value per channel",
        _always(
            "normalization over the batch needs two samples: DataLoader(..., drop_last=True) leaves out a last one"
        ),
    ),
    _Mistake(
        RuntimeError,
        # Not "size mismatch for layer.weight", of weights that do not fit.
        r"cannot be multiplied|size mismatch(?! for)|expected input.* channels|normalized_shape"
        r"|must match the size of tensor|invalid for input of size",
        _always(
            "a layer was made for another size: compare its arguments (in_features, in_channels) with the shapes of "
            "the batch; x.flatten(1) makes rows of images"
        ),
        _Where.STEP,
    ),
    _Mistake((AttributeError, TypeError), r"NoneType", _forward, _Where.STEP),
    # Backward
    _Mistake(RuntimeError, r"backward through the graph a second time", _twice),
    _Mistake(
        RuntimeError,
        r"modified by an inplace operation",
        _always("x += y, x[i] = y and x.relu_() overwrite what backward needs: write x = x + y, or change x.clone()"),
    ),
    _Mistake(RuntimeError, r"does not require grad|[Ii]nference tensor", _gradients),
    _Mistake(
        TypeError,
        r"TrainModule\.log\(\) missing 1 required",
        _always("self.log('train/loss', loss) logs one value, self.log_dict(...) several"),
    ),
    # Optimizers
    _Mistake(ValueError, r"optimizer got an empty parameter list", _parameters, _Where.TORCH),
    _Mistake(TypeError, r"'method' object is not iterable", _always("call it: self.parameters()"), _Where.TORCH),
    _Mistake((OverflowError, ValueError), r"convert float infinity to integer|total_steps, but got inf", _endless),
    # Data
    _Mistake(
        TypeError,
        r"default_collate: .*NoneType",
        _always("__getitem__ of the data set has returned None: end each way through it with return"),
        _Where.LOADER,
    ),
    _Mistake(
        TypeError,
        r"default_collate: ",
        _always("let the data set return tensors, arrays or numbers, or give the DataLoader a collate_fn"),
        _Where.LOADER,
    ),
    _Mistake(
        RuntimeError,
        r"stack expects each tensor to be equal size",
        _always("samples differ in size: bring them to one in the data set, or give the DataLoader a collate_fn"),
        _Where.LOADER,
    ),
)
