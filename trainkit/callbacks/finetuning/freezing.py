"""Freezing and unfreezing layers: the functions that `BaseFinetuning` offers to its subclasses."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TypeAlias

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.optim import Optimizer

from trainkit.module.optimizers import parameters_of
from trainkit.output import warn

Modules: TypeAlias = nn.Module | Iterable["Modules"]
"""A module, or modules in any nesting."""


def flatten_modules(modules: Modules) -> list[nn.Module]:
    """Return every module in ``modules``, at any depth, that has parameters of its own or no children."""
    if isinstance(modules, nn.Module):
        return [module for module in modules.modules() if module._parameters or not list(module.children())]
    return [module for part in modules for module in flatten_modules(part)]


def filter_params(modules: Modules, train_bn: bool = True, requires_grad: bool = True) -> Iterator[nn.Parameter]:
    """Yield the parameters in ``modules`` that are trained, or with ``requires_grad=False`` those that are frozen.

    Args:
        modules: The modules whose parameters are filtered.
        train_bn: Whether to include the parameters of BatchNorm layers.
        requires_grad: True yields the trained ones, False the frozen ones.
    """
    for module in flatten_modules(modules):
        if train_bn or not isinstance(module, _BatchNorm):
            # recurse=False: the children are in the list themselves.
            yield from (p for p in module.parameters(recurse=False) if p.requires_grad == requires_grad)


def make_trainable(modules: Modules) -> None:
    """Unfreeze the parameters in ``modules``."""
    for module in flatten_modules(modules):
        _set_trainable(module, True)


def freeze_module(module: nn.Module) -> None:
    """Freeze the parameters that ``module`` itself has, without those of its children."""
    _set_trainable(module, False)


def freeze(modules: Modules, train_bn: bool = True) -> None:
    """Freeze the parameters in ``modules``.

    Args:
        modules: What to freeze.
        train_bn: Whether BatchNorm layers are left unfrozen.
    """
    for module in flatten_modules(modules):
        _set_trainable(module, train_bn and isinstance(module, _BatchNorm))


def filter_on_optimizer(optimizer: Optimizer, params: Iterable[nn.Parameter]) -> list[nn.Parameter]:
    """Return those of ``params`` that ``optimizer`` does not have yet, with a warning if it has some."""
    known = set(parameters_of(optimizer))
    given = list(params)
    new = [parameter for parameter in given if parameter not in known]
    if len(new) < len(given):
        warn(
            f"{len(given) - len(new)} parameters to be unfrozen are in {type(optimizer).__name__} already and stay in "
            "their group. To add them later, leave them out in configure_optimizers: "
            "filter(lambda p: p.requires_grad, self.parameters())."
        )
    return new


def unfreeze_and_add_param_group(
    modules: Modules,
    optimizer: Optimizer,
    lr: float | None = None,
    initial_denom_lr: float = 10.0,
    train_bn: bool = True,
) -> None:
    """Unfreeze ``modules``, and add their parameters to ``optimizer`` as a group of their own.

    Args:
        modules: What to unfreeze.
        optimizer: The optimizer that gets the group.
        lr: Its learning rate; None is that of the first group, divided by ``initial_denom_lr``.
        initial_denom_lr: See ``lr``.
        train_bn: Whether BatchNorm layers are trained too.
    """
    # BatchNorm layers that were left unfrozen are in the optimizer already: no mistake that needs a warning.
    trained = set(filter_params(modules)).intersection(parameters_of(optimizer))
    make_trainable(modules)
    rate = optimizer.param_groups[0]["lr"] / initial_denom_lr if lr is None else float(lr)
    unfrozen = (p for p in filter_params(modules, train_bn=train_bn) if p not in trained)
    # torch raises for a parameter that is in two groups.
    params = filter_on_optimizer(optimizer, unfrozen)
    if params:
        optimizer.add_param_group({"params": params, "lr": rate})


def _set_trainable(module: nn.Module, trainable: bool) -> None:
    # Otherwise a frozen layer in train mode would still update its running mean and variance in every forward pass.
    if isinstance(module, _BatchNorm):
        module.track_running_stats = trainable
    for parameter in module.parameters(recurse=False):
        parameter.requires_grad = trainable
