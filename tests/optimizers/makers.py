"""The optimizers that are installed: all of torch, and of packages that people add. Makers take a module."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterator
from types import ModuleType
from typing import Any

import bitsandbytes
import pytorch_optimizer
import schedulefree
import torch
from torch import nn
from torch.optim import Optimizer

PACKAGES: dict[str, tuple[ModuleType, str]] = {
    "torch": (torch.optim, ""),
    "schedulefree": (schedulefree, ""),
    # The others compute with as many bits as torch's.
    "bitsandbytes": (bitsandbytes.optim, "^(?!Paged).*8bit"),
    # Muon and its kin, those with modes, and some that keep more for a parameter than tensors of its shape.
    "pytorch_optimizer": (
        pytorch_optimizer,
        "Muon$|ScheduleFree|^SPlus|^Lion|^Prodigy|^SOAP|^Shampoo|^GaLore|^Ranger25",
    ),
}
LEFT_OUT = {
    "torch.SparseAdam": "takes sparse gradients only",
    "pytorch_optimizer.DistributedMuon": "needs a process group",
    "pytorch_optimizer.ScheduleFreeWrapper": "made below, around another one",
}


def makers() -> Iterator[tuple[str, Callable[[nn.Module], Optimizer]]]:
    """Yield names and makers of optimizers."""
    for package, (members, pattern) in PACKAGES.items():
        for name, cls in inspect.getmembers(members, inspect.isclass):
            is_one = issubclass(cls, Optimizer) and cls is not Optimizer and not name.startswith("_")
            if is_one and re.search(pattern, name) and f"{package}.{name}" not in LEFT_OUT:
                yield f"{package}.{name}", lambda module, cls=cls: made(cls, module)
    yield (
        "pytorch_optimizer.ScheduleFreeWrapper",
        lambda module: pytorch_optimizer.ScheduleFreeWrapper(torch.optim.SGD(module.parameters(), lr=0.1)),
    )


def made(cls: Any, module: nn.Module) -> Optimizer:
    """Make an optimizer, which takes other arguments in each class."""
    parameters = [*module.parameters()]
    matrices = [each for each in parameters if each.ndim == 2]
    rest = [each for each in parameters if each.ndim != 2]
    groups = [{"params": matrices, "use_muon": True}, {"params": rest, "use_muon": False}]
    ways: list[Callable[[], Optimizer]] = [
        lambda: cls(parameters, lr=0.01),
        lambda: cls(groups),
        lambda: cls(matrices, lr=0.01),
        lambda: cls(parameters, lr=0.01, momentum=0.9),
    ]
    errors = []
    for way in ways:
        try:
            return way()
        except Exception as error:
            errors.append(error)
    raise ExceptionGroup(f"{cls.__name__} cannot be made", errors)
