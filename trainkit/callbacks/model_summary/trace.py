"""One forward pass that records sizes and counts operations, and leaves the module as it was."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from trainkit.batch.nested import map_tensors
from trainkit.module.modes import modes_kept
from trainkit.seed import isolate_rng

Size = Any
"""The shape of a tensor as a list; a list or dict of shapes for several tensors; None for a value that is no tensor."""


@dataclass
class Trace:
    """Sizes and operations of each submodule in one forward pass, by the submodule's name.

    Attributes:
        in_sizes: The size of the input.
        out_sizes: The size of the output.
        flops: Floating-point operations in it and its submodules; "" is the whole module. Empty if not counted.
    """

    in_sizes: dict[str, Size] = field(default_factory=dict)
    out_sizes: dict[str, Size] = field(default_factory=dict)
    flops: dict[str, int] = field(default_factory=dict)


def trace(module: nn.Module, example_input: Any, *, flops: bool) -> Trace:
    """Run ``module`` on ``example_input``: a tuple or list holds its arguments, a dict its keyword arguments.

    It runs in eval mode and without gradients. Modes, buffers and random number generators are restored afterwards.
    """
    found = Trace()
    device = next((parameter.device for parameter in module.parameters()), torch.device("cpu"))
    args, kwargs = _arguments(map_tensors(lambda tensor: tensor.to(device), example_input))
    with ExitStack() as stack:
        # Training must be the same with a summary and without: dropout draws numbers, and layers may change buffers.
        stack.enter_context(isolate_rng())
        stack.enter_context(modes_kept(module, buffers=True))
        stack.enter_context(torch.no_grad())
        module.eval()  # BatchNorm in train mode refuses a batch of one sample
        for name, child in module.named_modules():
            stack.enter_context(_recording_sizes(child, name, found))
        counter = stack.enter_context(_flop_counter()) if flops else None
        try:
            module(*args, **kwargs)
        except Exception as error:
            error.add_note(
                f"while trying {type(module).__name__}.example_input_array to summarise the module. It must be what "
                "forward takes: one tensor, a tuple of its arguments, or a dict of its keyword arguments."
            )
            raise
    if counter is not None:
        # The counter names modules "Net.encoder.0", after the class of the root; elsewhere they are "encoder.0".
        root = type(module).__name__
        for path, counts in counter.get_flop_counts().items():
            found.flops[path.removeprefix(root).removeprefix(".")] = sum(counts.values())
        found.flops[""] = counter.get_total_flops()
    return found


@contextmanager
def _recording_sizes(child: nn.Module, name: str, found: Trace) -> Iterator[None]:
    def keep(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> None:
        # setdefault: of a layer that is called several times, the first call counts.
        found.in_sizes.setdefault(name, _size_of_arguments(args, kwargs))
        found.out_sizes.setdefault(name, _size(output))

    handle = child.register_forward_hook(keep, with_kwargs=True)
    try:
        yield
    finally:
        handle.remove()


def _flop_counter() -> Any:
    # Imported late: it is needed by few runs.
    from torch.utils.flop_counter import FlopCounterMode

    return FlopCounterMode(display=False)


def _arguments(example_input: Any) -> tuple[tuple[Any, ...], dict[str, Any]]:
    if isinstance(example_input, Mapping):
        return (), dict(example_input)
    return (tuple(example_input), {}) if isinstance(example_input, tuple | list) else ((example_input,), {})


def _size_of_arguments(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Size:
    values = [*args, *kwargs.values()]
    return _size(values[0] if len(values) == 1 else values)


def _size(value: Any) -> Size:
    if isinstance(value, Tensor):
        return list(value.shape)
    if isinstance(value, Mapping):
        return {key: _size(item) for key, item in value.items()}
    if isinstance(value, tuple | list):
        return [_size(item) for item in value]
    return None
