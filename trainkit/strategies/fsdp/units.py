"""Which submodules `FSDP` gathers by themselves: each such unit is whole only while it computes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from torch import nn

from trainkit.checks import is_whole
from trainkit.errors import ConfigError

Policy = type[nn.Module] | Iterable[type[nn.Module]] | Callable[[nn.Module], bool] | int | None
"""Classes, or a function that tells of each module, or from how many parameters on; None is the default."""

_LISTS = (nn.ModuleList, nn.ModuleDict, nn.Sequential)


def check_policy(where: str, name: str, policy: Any) -> Any:
    """Return ``policy``, with several classes as a tuple.

    Raises:
        ConfigError: If it is none.
    """
    if policy is None or is_whole(policy, at_least=1):
        return policy
    if isinstance(policy, type):
        policy = (policy,)
    if isinstance(policy, list | tuple | set | frozenset):
        if policy and all(isinstance(each, type) and issubclass(each, nn.Module) for each in policy):
            return tuple(policy)
    elif callable(policy):
        return policy
    raise ConfigError(
        f"{where}({name}={policy!r}) is not usable. Allowed: classes of modules, such as {{Block}}; a function that "
        "takes a module and returns a bool; or a number of parameters, from which on a module counts."
    )


def chosen_modules(module: nn.Module, policy: Any) -> list[nn.Module]:
    """Return the modules below ``module`` that ``policy`` chooses, the innermost first."""
    if policy is None:
        chosen = list(repeated_blocks(module))
    elif isinstance(policy, int):
        chosen = list(_large(module, policy))
    else:
        is_chosen: Callable[[nn.Module], bool] = (
            (lambda each: isinstance(each, policy)) if isinstance(policy, tuple) else policy
        )
        chosen = [each for each in module.modules() if each is not module and is_chosen(each)]
    order = {id(each): depth for depth, each in enumerate(module.modules())}
    return sorted(chosen, key=lambda each: -order[id(each)])


def units(module: nn.Module, policy: Any) -> list[nn.Module]:
    """Return the units of ``module``, the innermost first: what ``policy`` chooses and can be gathered by itself.

    A module that shares a parameter with one outside of it cannot: there would be two copies of it. Nor can a list of
    modules, which is never called.
    """
    used = Counter(id(parameter) for owner in module.modules() for parameter in owner.parameters(recurse=False))
    return [
        each
        for each in chosen_modules(module, policy)
        if not isinstance(each, nn.ModuleList | nn.ModuleDict | nn.ParameterList | nn.ParameterDict)
        and next(each.parameters(), None) is not None
        and not _shares(each, used)
    ]


def repeated_blocks(module: nn.Module) -> Iterator[nn.Module]:
    """Yield the members of lists of modules that have a class in common with another member, the outermost alone."""
    for child in module.children():
        if isinstance(child, _LISTS):
            members = [each for each in child.children() if next(each.parameters(), None) is not None]
            times = Counter(type(each) for each in members)
            for each in members:
                if times[type(each)] > 1 and not isinstance(each, _LISTS[:2]):
                    yield each
                else:
                    yield from repeated_blocks(each)
        else:
            yield from repeated_blocks(child)


def _large(module: nn.Module, size: int) -> Iterator[nn.Module]:
    """Yield modules of at least ``size`` parameters, not counting those of modules that were yielded within them."""
    taken: set[int] = set()
    for each in reversed(list(module.modules())):
        own = {id(p): p.numel() for p in each.parameters() if id(p) not in taken}
        if each is not module and sum(own.values()) >= size and not isinstance(each, _LISTS[:2]):
            taken |= own.keys()
            yield each


def _shares(unit: nn.Module, used: Counter[int]) -> bool:
    within = Counter(id(parameter) for owner in unit.modules() for parameter in owner.parameters(recurse=False))
    return any(used[key] > times for key, times in within.items())
