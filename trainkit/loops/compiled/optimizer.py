"""The user's optimizer as a graph sees it: what may change from step to step is an input, and no constant."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor
from torch.optim.lr_scheduler import CyclicLR, OneCycleLR

from trainkit.module.joint_optimizer import JointOptimizer, parts_of
from trainkit.module.optimizer_modes import has_modes
from trainkit.module.optimizers import SchedulerConfig, parameters_of

ONE = 2**53
"""Momentum is counted in units of ``1 / ONE``: Dynamo makes an integer an input of a graph, but a float a constant."""

KERNELS: dict[str, dict[str, bool | None]] = {
    "cpu": {"fused": False, "foreach": False},
    "cuda": {"fused": None, "foreach": None, "capturable": True},
}
"""How an update is written is for the compiler to choose, and not for the options that choose between eager kernels."""


class TracedOptimizer:
    """Shares parameters and state with an optimizer, and has parameter groups of its own.

    In these, learning rates are tensors, and so is what a scheduler cycles: betas on every device, momentum on the CPU
    (optimizers branch on it, so it cannot be a tensor). Everything else is a constant of the graph. The optimizer
    itself keeps its plain numbers, for schedulers, loggers and checkpoints.

    Args:
        optimizer: The user's.
        schedulers: Its schedulers.
        device: Where the run computes.

    Attributes:
        traced: What the graph steps.
        parameters: Those that require gradients.
    """

    def __init__(
        self, optimizer: torch.optim.Optimizer, schedulers: Iterable[SchedulerConfig], device: torch.device
    ) -> None:
        self._optimizer = optimizer
        self._device = device
        self._kernels = KERNELS[device.type]
        self._cycles = any(cycles_momentum(config.scheduler) for config in schedulers)
        self._step = undecorated(type(optimizer).step)
        # Without __init__, which would register parameters and check arguments that are tensors by now.
        self.traced = object.__new__(type(optimizer))
        vars(self.traced).update({name: value for name, value in vars(optimizer).items() if name != "step"})
        self.traced.param_groups = [self._traced_group(group) for group in optimizer.param_groups]
        self._state = optimizer.state
        self._seen: list[dict[str, Any]] = []
        self._required = [parameter.requires_grad for parameter in self.all_parameters()]
        self.parameters = [parameter for parameter in self.all_parameters() if parameter.requires_grad]
        self._momentum_of = [i for i, group in enumerate(optimizer.param_groups) if self._cycled(group, "momentum")]
        self._momenta: tuple[int, ...] = ()
        self.momenta()

    def is_current(self) -> bool:
        """Whether it still stands for the optimizer: the same parameters, trained or frozen, and the same state."""
        groups, seen = self._optimizer.param_groups, self._seen
        return (
            self._optimizer.state is self._state
            and len(groups) == len(seen)
            and [parameter.requires_grad for parameter in self.all_parameters()] == self._required
        )

    def momenta(self) -> tuple[int, ...]:
        """Take over what has changed in the optimizer's groups; return the momenta that are inputs, in `ONE`-ths."""
        groups = self._optimizer.param_groups
        # Most steps change nothing in the groups; one comparison of dicts finds that out.
        if groups == self._seen:
            return self._momenta
        self._seen = [dict(group) for group in groups]
        for traced, group in zip(self.traced.param_groups, groups, strict=True):
            for name, value in group.items():
                self._take_over(traced, name, value)
        self._momenta = tuple(round(groups[index]["momentum"] * ONE) for index in self._momentum_of)
        return self._momenta

    def update(self, momenta: tuple[int, ...]) -> None:
        """Change the weights. Part of the graph."""
        groups = self.traced.param_groups
        for index, momentum in zip(self._momentum_of, momenta, strict=True):
            groups[index]["momentum"] = momentum / ONE
        self._step(self.traced)
        # Back to a constant: a float that differs from step to step would make Dynamo compile each time.
        for index in self._momentum_of:
            groups[index]["momentum"] = 1.0

    def put_counters_on_device(self) -> None:
        """Let the counts of updates lie where the parameters do: on CUDA a graph cannot read the memory of the host."""
        for parameter, state in self._state.items():
            # Adam and its like count in a tensor on the CPU, so that eager steps need not wait for the device.
            if isinstance(state.get("step"), Tensor):
                state["step"] = state["step"].to(parameter.device)

    def all_parameters(self) -> list[Tensor]:
        """Return the parameters of all groups, frozen ones too."""
        return list(parameters_of(self._optimizer))

    def _cycled(self, group: dict[str, Any], name: str) -> bool:
        if name == "momentum":
            value = group.get(name)
            return self._cycles and isinstance(value, float) and value > 0 and self._device.type == "cpu"
        return self._cycles and name == "betas" and name in group

    def _traced_group(self, group: dict[str, Any]) -> dict[str, Any]:
        # A rate in single precision would round the updates of parameters in double.
        is_double = any(parameter.dtype is torch.float64 for parameter in group["params"])
        traced = {**group, "lr": self._as_input(group["lr"], torch.float64 if is_double else torch.float32)}
        for name, value in self._kernels.items():
            if name in group:
                traced[name] = value
        if self._cycled(group, "betas"):
            # What counts is how little 1 - beta is.
            traced["betas"] = tuple(self._as_input(beta, torch.float64) for beta in group["betas"])
        if self._cycled(group, "momentum"):
            traced["momentum"] = 1.0
        return traced

    def _as_input(self, value: float | Tensor, dtype: torch.dtype) -> Tensor:
        from torch._dynamo import mark_static_address

        if not isinstance(value, Tensor):
            value = torch.tensor(value, dtype=dtype, device=self._device)
        # Dynamo would copy an input that may lie elsewhere in the next step; this one is changed in place.
        mark_static_address(value)
        return value

    def _take_over(self, traced: dict[str, Any], name: str, value: Any) -> None:
        if name == "lr":
            traced[name].fill_(value)
        elif name == "betas" and self._cycled(traced, name):
            for tensor, beta in zip(traced[name], value, strict=True):
                tensor.fill_(beta)
        elif name not in self._kernels and not self._cycled(traced, name):
            traced[name] = value


class TracedOptimizers:
    """As `TracedOptimizer`, for several optimizers that make one update."""

    def __init__(self, joint: JointOptimizer, schedulers: Iterable[SchedulerConfig], device: torch.device) -> None:
        schedulers = list(schedulers)
        self._parts = [TracedOptimizer(each, schedulers, device) for each in joint.optimizers]
        self.traced = JointOptimizer.__new__(JointOptimizer)
        self.traced.optimizers = [part.traced for part in self._parts]
        self.parameters = [parameter for part in self._parts for parameter in part.parameters]
        self._counts = [len(part.momenta()) for part in self._parts]

    def is_current(self) -> bool:
        """Whether all parts still stand for their optimizers."""
        return all(part.is_current() for part in self._parts)

    def momenta(self) -> tuple[int, ...]:
        """Take over what has changed in all groups; return the momenta that are inputs."""
        return tuple(momentum for part in self._parts for momentum in part.momenta())

    def update(self, momenta: tuple[int, ...]) -> None:
        """Change the weights. Part of the graph."""
        for part, count in zip(self._parts, self._counts, strict=True):
            part.update(momenta[:count])
            momenta = momenta[count:]

    def put_counters_on_device(self) -> None:
        """Let the counts of updates lie where the parameters do."""
        for part in self._parts:
            part.put_counters_on_device()

    def all_parameters(self) -> list[Tensor]:
        """Return the parameters of all groups, frozen ones too."""
        return [parameter for part in self._parts for parameter in part.all_parameters()]


Traced = TracedOptimizer | TracedOptimizers


def trace(optimizer: torch.optim.Optimizer, schedulers: Iterable[SchedulerConfig], device: torch.device) -> Traced:
    """Return what stands for ``optimizer`` in a graph."""
    kind = TracedOptimizers if isinstance(optimizer, JointOptimizer) else TracedOptimizer
    return kind(optimizer, schedulers, device)  # type: ignore[arg-type]  # each is given its own


def undecorated(step: Callable[..., Any]) -> Callable[..., Any]:
    """Return ``step`` without what torch wraps around it: a graph break, and hooks that none has joined."""
    while hasattr(step, "__wrapped__"):
        step = step.__wrapped__
    return step


def cycles_momentum(scheduler: Any) -> bool:
    """Whether a scheduler, or one that it is made of, changes momentum or betas."""
    if isinstance(scheduler, OneCycleLR | CyclicLR):
        return bool(scheduler.cycle_momentum)
    return any(cycles_momentum(part) for part in getattr(scheduler, "_schedulers", ()))


def makes_state(optimizer: torch.optim.Optimizer, trained: Iterable[Tensor]) -> bool:
    """Whether an update of ``trained`` makes state that is not there yet, such as a momentum buffer."""
    # By trying on a copy: which optimizers make state, and when, is known to nobody else.
    trial, pairs = _tried(optimizer, trained)
    return any(_filled(trial, other) != _filled(optimizer, own) for own, other in pairs)


def own_count(optimizer: torch.optim.Optimizer) -> str:
    """Return which number a step changes in an optimizer or its groups, such as a count; empty if it changes none."""
    trained = [parameter for parameter in parameters_of(optimizer) if parameter.requires_grad]
    trial, _ = _tried(optimizer, trained)
    pairs = [(optimizer.param_groups, trial.param_groups), ([vars(optimizer)], [vars(trial)])]
    for before, after in (pair for pair_of_lists in pairs for pair in zip(*pair_of_lists, strict=True)):
        for name, value in after.items():
            if isinstance(value, int | float) and (name not in before or before[name] != value):
                return str(name)
    return ""


def copied(optimizer: torch.optim.Optimizer, memo: dict[int, Any]) -> Any:
    """Return a copy of an optimizer with all that it has: ``copy`` alone leaves out what torch does not know.

    Args:
        optimizer: Which one.
        memo: That of ``copy.deepcopy``, so that what it refers to is copied once.
    """
    for part in parts_of([optimizer]):
        own = {name: value for name, value in vars(part).items() if name != "step"}  # not what schedulers wrap it in
        memo[id(part)] = mine = object.__new__(type(part))
        vars(mine).update(copy.deepcopy(own, memo))
    return copy.deepcopy(optimizer, memo)


def _tried(optimizer: torch.optim.Optimizer, trained: Iterable[Tensor]) -> tuple[Any, list[tuple[Tensor, Tensor]]]:
    """Return a copy that has made a step of zero gradients, with the pairs of parameters."""
    memo: dict[int, Any] = {}
    trial = copied(optimizer, memo)
    pairs = [(parameter, memo[id(parameter)]) for parameter in trained]
    for _, other in pairs:
        other.grad = torch.zeros_like(other)
    if has_modes(trial):
        trial.train()
    trial.step()
    return trial, pairs


def _filled(optimizer: torch.optim.Optimizer, parameter: Tensor) -> set[str]:
    return {name for name, value in optimizer.state.get(parameter, {}).items() if value is not None}
