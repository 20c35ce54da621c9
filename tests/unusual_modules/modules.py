"""The module that a draw stands for: its steps and hooks in their forms, its parameters, its optimizers."""

from __future__ import annotations

import functools
import inspect
import types
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from tests.unusual_modules.draws import HOOKS, Draw
from trainkit import TrainModule
from trainkit.compat.lightning import LightningModule

Batch = tuple[Tensor, Tensor]


class Model(nn.Module):
    """The layers and what is done with them, for the Trainer and for the loop by hand."""

    def __init__(self, draw: Draw) -> None:
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(draw.seed)
            self.first, self.second = nn.Linear(3, 4).double(), nn.Linear(4, 1).double()
            self.sometimes, self.extra = nn.Linear(4, 1).double(), nn.Linear(4, 1).double()
            self.spare = [nn.Linear(4, 1).double()]  # in a list, where torch does not see it
        self.draw = draw
        self.late: nn.Module | None = None
        self.events: list[tuple[str, Any]] = []
        self.evaluations = 0
        self.first.requires_grad_(not draw.frozen and draw.change != "thaws")

    def loss(self, batch: Batch, batch_idx: int) -> Tensor:
        self.evaluations += 1
        hidden = torch.tanh(self.first(batch[0]))
        output = self.second(hidden) + self.extra(hidden)
        if self.draw.alternates and batch_idx % 2:
            output = output + self.sometimes(hidden)
        if self.late is not None:
            output = output + self.late(hidden)
        return (output - batch[1]).pow(2).mean()

    def make_optimizers(self) -> list[torch.optim.Optimizer]:
        layers = [self.second, self.sometimes, *([] if self.draw.left_out else [self.first])]
        if self.draw.change != "new group":
            layers.append(self.extra)
        parts = [layers[:1], layers[1:]] if self.draw.manual == "two" else [layers]
        return [self.draw.optimizer([p for layer in part for p in layer.parameters()]) for part in parts]

    def change(self, optimizer: torch.optim.Optimizer) -> None:
        """What happens to the parameters at the beginning of the second epoch."""
        match self.draw.change:
            case "freezes" | "thaws":
                self.first.requires_grad_(self.draw.change == "thaws")
            case "new group":
                optimizer.add_param_group({"params": list(self.extra.parameters())})
            case "new layer":
                self.late = self.spare[0]
                optimizer.add_param_group({"params": list(self.late.parameters())})

    def step_by_itself(self, optimizers: list[Any], backward: Callable[[Tensor], None], batch: Batch, idx: int) -> None:
        """The ``training_step`` of manual optimization."""
        optimizer = optimizers[0]

        @torch.enable_grad()
        def closure() -> Tensor:
            optimizer.zero_grad()
            loss = self.loss(batch, idx)
            backward(loss)
            return loss

        match self.draw.manual:
            case "closure":
                optimizer.step(closure)
            case "second_step":
                closure()
                optimizer.second_step()
            case "sam":
                closure()
                optimizer.first_step()
                closure()
                optimizer.second_step()
            case "every second":
                backward(self.loss(batch, idx))
                if idx % 2:
                    optimizer.step()
                    optimizer.zero_grad()
            case _:
                self.zero_grad()
                backward(self.loss(batch, idx))
                for each in optimizers:
                    each.step()


def make_module(draw: Draw) -> Any:
    """Return the module for the Trainer."""
    namespace: dict[str, Any] = {"configure_optimizers": Model.make_optimizers}
    if draw.manual is not None:
        namespace["automatic_optimization"] = False
    if draw.own_step is not None:
        namespace["optimizer_step"] = OWN_STEPS[draw.own_step]
    namespace |= {name: None for name, where in draw.off.items() if where == "class"}
    mixin: dict[str, Any] = {}
    assigned: dict[str, Callable[[Any], Any]] = {name: _nothing for name in draw.off if name not in namespace}
    steps = {"training_step": draw.step, "validation_step": draw.validation}
    for name, form in (steps | draw.hooks).items():
        _put(name, form, namespace, mixin, assigned)
    base = LightningModule if draw.door else TrainModule
    module = type("Unusual", (type("Mixin", (), mixin), Model, base), namespace)(draw)
    for name, make in assigned.items():
        setattr(module, name, make(module))
    return module


def training_step(self: Any, batch: Batch, batch_idx: int) -> Any:
    if self.draw.manual is not None:
        bare = self.draw.manual in ("bare", "not wrapped")
        found = self.trainer.optimizers if self.draw.manual == "bare" else self.optimizers(not bare)
        found = found if isinstance(found, list) else [found]
        return self.step_by_itself(found, self.manual_backward, batch, batch_idx)
    loss = self.loss(batch, batch_idx)
    if batch_idx == self.draw.skips:
        return None
    return {"loss": loss, "more": loss.detach()} if self.draw.output == "dict" else loss


def validation_step(self: Any, batch: Batch, batch_idx: int) -> None:
    self.events.append(("validation_step", batch_idx))


STEPS = {"training_step": training_step, "validation_step": validation_step}


def _passes(self: Any, epoch: int, batch_idx: int, optimizer: Any, optimizer_closure: Any = None) -> None:
    optimizer.step(closure=optimizer_closure)


def _calls(self: Any, epoch: int, batch_idx: int, optimizer: Any, optimizer_closure: Any = None) -> None:
    optimizer_closure()
    optimizer.step()


def _second(self: Any, epoch: int, batch_idx: int, optimizer: Any, optimizer_closure: Any = None) -> None:
    optimizer_closure()
    optimizer.second_step()


OWN_STEPS = {"passes the closure": _passes, "calls the closure": _calls, "second_step": _second}


def _put(name: str, form: str, namespace: dict[str, Any], mixin: dict[str, Any], assigned: dict[str, Any]) -> None:
    """Put the step or hook ``name`` where its form says."""
    function = STEPS.get(name) or _recorder(name)
    match form:
        case "method":
            namespace[name] = function
        case "mixin":
            mixin[name] = function
        case "wrapped":
            namespace[name] = functools.wraps(function)(lambda *args, **kwargs: function(*args, **kwargs))
        case "partialmethod":
            namespace[name] = functools.partialmethod(function)
        case "none":
            mixin[name], namespace[name] = _never, None
        case "none on the object":
            mixin[name], assigned[name] = _never, _nothing
        case "absent":
            pass
        case _:
            assigned[name] = functools.partial(_assigned, form, function)


def _assigned(form: str, function: Callable[..., Any], module: Any) -> Any:
    """Return ``function`` for an object: nothing binds it to ``module`` but itself."""
    bound = types.MethodType(function, module)
    match form:
        case "bound":
            return bound
        case "partial":
            return functools.partial(function, module)
        case "args":
            # What a hook has before the index of its batch is of no matter here.
            is_step = function in STEPS.values()
            return lambda *args: bound(*(args if is_step else args[-1:] if function.__name__ == "of_batch" else ()))
        case "object":
            return _Object(bound)
        case _:
            if function in STEPS.values():
                return lambda batch, batch_idx: bound(batch, batch_idx)
            return (lambda batch_idx: bound(batch_idx)) if function.__name__ == "of_batch" else lambda: bound()


class _Object:
    """Can be called, with the arguments of a function, as what a decorator that is a class makes."""

    def __init__(self, function: Callable[..., Any]) -> None:
        self.function = function
        self.__signature__ = inspect.signature(function)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self.function(*args, **kwargs)


def _recorder(name: str) -> Callable[..., None]:
    def of_batch(self: Any, batch_idx: int) -> None:
        self.events.append((name, batch_idx))

    def of_run(self: Any) -> None:
        self.events.append((name, None))

    return of_batch if HOOKS[name] else of_run


def _never(self: Any) -> None:
    raise AssertionError("a method that is not there was called")


def _nothing(module: Any) -> None:
    """What is assigned to switch a method off."""
