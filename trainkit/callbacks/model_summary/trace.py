"""One forward pass that records sizes and counts operations, and leaves the module as it was."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from trainkit.batch.nested import map_tensors
from trainkit.errors import note_on
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
        flops: Floating-point operations in it and its submodules; "" is the whole module. Empty if not counted. A layer
            in several places has those of each under its name there.
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
        if flops:
            stack.enter_context(_counting(module, found.flops))
        try:
            module(*args, **kwargs)
        except Exception as error:
            note_on(
                error,
                f"while trying {type(module).__name__}.example_input_array to summarise the module. It must be what "
                "forward takes: one tensor, a tuple of its arguments, or a dict of its keyword arguments.",
            )
            raise
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


@contextmanager
def _counting(module: nn.Module, flops: dict[str, int]) -> Iterator[None]:
    """Count the operations of each submodule inside, by its name in the place from which it is called."""
    # Imported late: it is needed by few runs.
    from torch.utils.flop_counter import FlopCounterMode

    names: dict[nn.Module, list[str]] = {}
    for name, child in module.named_modules(remove_duplicate=False):
        names.setdefault(child, []).append(name)
    running: list[tuple[str, int]] = []  # the names of those that are running, and the operations before each

    with ExitStack() as stack:
        # The counter does not know the fused kernels of attention and recurrent layers, and counts them as nothing.
        recurrent = bool(torch.backends.mkldnn.enabled)  # a property of torch's
        stack.callback(_use_kernels, torch.backends.mha.get_fastpath_enabled(), recurrent)
        _use_kernels(False, False)
        counting = FlopCounterMode(display=False, custom_mapping={torch.ops.aten._trilinear: _bilinear_flops})
        counter = stack.enter_context(counting)

        def begin(child: nn.Module, _: Any) -> None:
            running.append((_name_from(running[-1][0] if running else "", names[child]), counter.get_total_flops()))

        def end(*_: Any) -> None:
            name, before = running.pop()
            flops[name] = flops.get(name, 0) + counter.get_total_flops() - before

        for child in names:
            stack.callback(child.register_forward_pre_hook(begin).remove)
            stack.callback(child.register_forward_hook(end).remove)
        yield


def _bilinear_flops(first: list[int], weight: list[int], second: list[int], *_: Any, **__: Any) -> int:
    """Return the operations of `torch.nn.Bilinear`: two contractions, of which torch's counter knows nothing."""
    num_out, num_first, num_second = weight
    return 2 * first[0] * num_out * num_second * (num_first + 1)


def _use_kernels(attention: bool, recurrent: bool) -> None:
    torch.backends.mha.set_fastpath_enabled(attention)
    # Not its flags(), which sets others too.
    torch.backends.mkldnn.enabled = recurrent  # type: ignore[assignment]  # a property of torch's


def _name_from(caller: str, names: list[str]) -> str:
    """Return that of the names of a layer under which ``caller`` has it: as its own, or else further down."""
    own = [name for name in names if name.rpartition(".")[0] == caller]
    below = [name for name in names if not caller or name.startswith(f"{caller}.")]
    return [*own, *below, *names][0]


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
