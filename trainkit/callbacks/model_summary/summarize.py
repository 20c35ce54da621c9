"""Counting the parameters, the memory and the operations of a module."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from torch import nn
from torch.nn.parameter import is_lazy

from trainkit.callbacks.model_summary.summary import LayerSummary, Summary
from trainkit.callbacks.model_summary.trace import Trace, trace
from trainkit.checks import whole
from trainkit.errors import ConfigError
from trainkit.module.shards import class_of, is_sharded

OWN = "(own)"
"""The name of the row for parameters that belong to the module itself and to no layer."""


def summarize(module: nn.Module, max_depth: int = 1, *, flops: bool = False, example_input: Any = None) -> Summary:
    """Return the summary of ``module``, which is not changed.

    Args:
        module: The module to summarize.
        max_depth: How deep to list layers within layers; 0 lists none, -1 all.
        flops: Whether to count the floating-point operations of one forward pass.
        example_input: An input of ``forward``: a tensor, a tuple of its arguments, or a dict of its keyword arguments.
            By default ``module.example_input_array``. Without one, sizes are unknown. They are unknown as well for a
            module with lazy layers, which a forward pass would initialise.

    Raises:
        ConfigError: If ``max_depth`` is not usable, or ``flops`` is True without an input.
    """
    whole("max_depth", max_depth, at_least=-1)
    if example_input is None:
        example_input = getattr(module, "example_input_array", None)
    if flops and example_input is None:
        raise ConfigError(
            f"flops=True needs an input to count with, and {type(module).__name__} has no example_input_array. Set "
            "self.example_input_array in its __init__, or leave out flops."
        )
    lazy = [tensor for tensor in _tensors(module) if is_lazy(tensor)]
    # Nor of one that is sharded, which all ranks would have to call.
    is_unknown = example_input is None or lazy or any(map(is_sharded, module.parameters()))
    found = Trace() if is_unknown else trace(module, example_input, flops=flops)
    # parameters() yields a shared parameter once.
    parameters = [parameter for parameter in module.parameters() if not is_lazy(parameter)]
    num_train = sum(child.training for child in module.modules())
    return Summary(
        layers=list(_layers(module, max_depth, found)),
        num_trainable=sum(parameter.numel() for parameter in parameters if parameter.requires_grad),
        num_frozen=sum(parameter.numel() for parameter in parameters if not parameter.requires_grad),
        num_lazy=sum(is_lazy(parameter) for parameter in module.parameters()),
        size_bytes=sum(tensor.nbytes for tensor in _tensors(module) if not is_lazy(tensor)),
        num_train_modules=num_train,
        num_eval_modules=sum(1 for _ in module.modules()) - num_train,
        flops=found.flops.get("") if flops else None,
    )


def _layers(module: nn.Module, max_depth: int, found: Trace) -> Iterator[LayerSummary]:
    for name, child in module.named_modules():
        if name and (max_depth < 0 or name.count(".") < max_depth):
            yield LayerSummary(
                name=name,
                kind=class_of(child).__name__,
                num_params=_count(child.parameters()),
                mode="train" if child.training else "eval",
                in_size=found.in_sizes.get(name),
                out_size=found.out_sizes.get(name),
                # Counted, but not found: a layer that the forward pass did not call, or that is free.
                flops=found.flops.get(name, 0) if found.flops else None,
            )
    num_own = _count(module.parameters(recurse=False))
    if num_own and max_depth:
        yield LayerSummary(name=OWN, kind="Parameter", num_params=num_own, mode=None)


def _count(parameters: Iterable[nn.Parameter]) -> int:
    return sum(parameter.numel() for parameter in parameters if not is_lazy(parameter))


def _tensors(module: nn.Module) -> Iterator[Any]:
    yield from module.parameters()
    yield from module.buffers()
