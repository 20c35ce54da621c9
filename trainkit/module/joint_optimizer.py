"""Several optimizers that make one update of one loss, such as Muon for matrices and AdamW for all else."""

from __future__ import annotations

import inspect
from collections import ChainMap
from collections.abc import Iterable
from typing import Any

from torch import Tensor, nn
from torch.optim import Optimizer

from trainkit.errors import OptimizerError


class JointOptimizer(Optimizer):
    """Optimizers that update their parameters together, after one backward.

    ``configure_optimizers`` may return it in the place of an optimizer. To the loop they are one: one group of
    accumulated batches, one norm of all gradients when they are clipped, one update that ``global_step`` counts. Each
    keeps its own state in checkpoints, its own schedulers, and its own rates in logs; they are in
    ``trainer.optimizers``. Hooks of plugins get the joint one::

        def configure_optimizers(self):
            matrices, rest = split_parameters(self)
            return JointOptimizer(Muon(matrices, lr=0.02), AdamW(rest, lr=1e-3))

    Optimizers that are stepped at different times, as in a GAN, need manual optimization instead.

    Args:
        optimizers: Any number, in the order of their steps.

    Raises:
        OptimizerError: If one is no optimizer, evaluates the loss itself, or shares parameters with another.
    """

    def __init__(self, *optimizers: Optimizer) -> None:
        # The __init__ of torch is not called: it would make parameter groups and a state of its own.
        for each in optimizers:
            if not isinstance(each, Optimizer):
                raise OptimizerError(
                    f"JointOptimizer takes optimizers, and no {type(each).__name__}: JointOptimizer(muon, adamw)."
                )
        if not optimizers:
            raise OptimizerError("JointOptimizer() needs optimizers, such as JointOptimizer(muon, adamw).")
        self.optimizers: list[Optimizer] = parts_of(optimizers)
        for each in self.optimizers:
            closure = inspect.signature(type(each).step).parameters.get("closure")
            if closure is not None and closure.default is closure.empty:
                raise OptimizerError(
                    f"{type(each).__name__} evaluates the loss itself, and cannot take part in a joint update."
                )
        self._refuse_shared_parameters()

    @property
    def param_groups(self) -> list[dict[str, Any]]:  # type: ignore[override]  # theirs, whenever they change
        """The parameter groups of all, those of the first optimizer first."""
        return [group for each in self.optimizers for group in each.param_groups]

    @property
    def state(self) -> ChainMap[Tensor, Any]:  # type: ignore[override]
        """What each keeps of a parameter, by the parameter."""
        return ChainMap(*(each.state for each in self.optimizers))

    @property
    def defaults(self) -> dict[str, Any]:  # type: ignore[override]
        """Nothing: each has defaults of its own."""
        return {}

    def step(self) -> None:  # type: ignore[override]  # without a closure: none of them evaluates the loss
        """Let each make its step."""
        for each in self.optimizers:
            each.step()

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Clear the gradients of all parameters."""
        for each in self.optimizers:
            each.zero_grad(set_to_none)

    def state_dict(self) -> dict[str, Any]:
        """Return the states of all. A Trainer saves them one by one."""
        return {"optimizers": [each.state_dict() for each in self.optimizers]}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore what `state_dict` returned."""
        for each, state in zip(self.optimizers, state_dict["optimizers"], strict=True):
            each.load_state_dict(state)

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Refuse: a group belongs to one of the optimizers.

        Raises:
            OptimizerError: Always.
        """
        names = ", ".join(type(each).__name__ for each in self.optimizers)
        raise OptimizerError(
            f"JointOptimizer has no groups of its own. Add the group to one of its optimizers: {names}."
        )

    def register_step_pre_hook(self, hook: Any) -> Any:
        """Have ``hook`` called ahead of the step of the first."""
        return self.optimizers[0].register_step_pre_hook(hook)

    def register_step_post_hook(self, hook: Any) -> Any:
        """Have ``hook`` called after the step of the last."""
        return self.optimizers[-1].register_step_post_hook(hook)

    def __getstate__(self) -> dict[str, Any]:
        return {"optimizers": self.optimizers}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.optimizers = state["optimizers"]

    def __repr__(self) -> str:
        return f"JointOptimizer({', '.join(type(each).__name__ for each in self.optimizers)})"

    def _refuse_shared_parameters(self) -> None:
        owner: dict[int, str] = {}
        for each in self.optimizers:
            own = {id(parameter): parameter for group in each.param_groups for parameter in group["params"]}
            shared = [parameter for key, parameter in own.items() if key in owner]
            if shared:
                names = f"{owner[id(shared[0])]} and {type(each).__name__}"
                raise OptimizerError(
                    f"{len(shared)} parameters, the first of shape {tuple(shared[0].shape)}, are in both {names} of a "
                    "JointOptimizer, and would be updated twice. Give each to one of them, as split_parameters does."
                )
            owner |= dict.fromkeys(own, type(each).__name__)


def parts_of(optimizers: Iterable[Any]) -> list[Any]:
    """Return ``optimizers``, with the parts of joint ones in their places."""
    return [part for each in optimizers for part in (each.optimizers if isinstance(each, JointOptimizer) else [each])]


def in_order_of(module: nn.Module, parameters: list[nn.Parameter]) -> list[nn.Parameter]:
    """Return ``parameters`` in the order in which ``module`` has them; those of others last."""
    place = {id(parameter): index for index, parameter in enumerate(module.parameters())}
    return sorted(parameters, key=lambda parameter: place.get(id(parameter), len(place)))
