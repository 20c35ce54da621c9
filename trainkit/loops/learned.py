"""Whether the updates of an epoch have come to anything: what no single step can tell is told at the end of it."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.parameter import is_lazy

from trainkit.errors import ModuleError
from trainkit.module import TrainModule
from trainkit.module.optimizers import parameters_of
from trainkit.module.shards import is_sharded, whole
from trainkit.output import warn
from trainkit.progress import Progress


class LearningWatch:
    """Looks for gradients until it has found some, and whether weights change for as long as there are none.

    Attributes:
        has_gradients: Whether an update has found a gradient.
    """

    def __init__(self) -> None:
        self.has_gradients = False
        self._weights: list[Tensor] = []  # the norms when the epoch began; empty where nobody will ask
        self._first_step: int | None = None  # global_step when it began; None if that was in another process
        self._has_warned = False
        self._has_looked_for_others = False

    def start_epoch(self, optimizers: Sequence[torch.optim.Optimizer], progress: Progress) -> None:
        """Note what the weights are, as long as no update has found a gradient."""
        self._first_step = None if progress.batch else progress.global_step
        self._weights = [] if self.has_gradients else _norms(optimizers)

    def end_epoch(
        self, module: TrainModule, optimizers: Sequence[torch.optim.Optimizer], progress: Progress, *, is_tried: bool
    ) -> None:
        """Warn of an epoch that has changed no weight, once; raise where everything is only tried.

        Raises:
            ModuleError: If the batches of a fast dev run have changed none.
        """
        first_step, self._first_step = self._first_step, None
        if not optimizers or first_step is None or not progress.batch:
            return
        has_updates = progress.global_step != first_step
        # One that was left may have ended ahead of its first update.
        if not has_updates and not progress.epoch_ended:
            return
        message = self._nothing_learned(module, optimizers, progress, has_updates=has_updates)
        if message and is_tried:
            raise ModuleError(message)
        if not message and not self._has_looked_for_others and module.automatic_optimization:
            self._has_looked_for_others = True
            message = _left_out(module, optimizers)
        if message and not self._has_warned:
            self._has_warned = True
            warn(message)

    def look(self, optimizers: Sequence[torch.optim.Optimizer]) -> None:
        """Note whether there is a gradient for an update that was made."""
        self.has_gradients = any(
            parameter.grad is not None for optimizer in optimizers for parameter in parameters_of(optimizer)
        )

    def has_changed(self, optimizers: Sequence[torch.optim.Optimizer]) -> bool | None:
        """Whether the weights are others than when the epoch began; None if that is not known."""
        if not self._weights:
            return None
        now = _norms(optimizers)
        return len(now) != len(self._weights) or not all(map(torch.equal, now, self._weights))

    def _nothing_learned(
        self,
        module: TrainModule,
        optimizers: Sequence[torch.optim.Optimizer],
        progress: Progress,
        *,
        has_updates: bool,
    ) -> str:
        """Return what there is to say of an epoch that has learned nothing; empty for all others."""
        if has_updates and not self.has_gradients:
            self.look(optimizers)  # those of the last update, which the plain step leaves to be looked at
        if has_updates and self.has_gradients:
            return ""
        place = (progress.epoch, progress.batch)
        has_changed = self.has_changed(optimizers)
        if has_updates:
            return "" if has_changed is not False else _without_gradient(module, *place, optimizers)
        is_unseen = has_changed and not module.automatic_optimization
        return (_without_count if is_unseen else _without_update)(module, *place)


def _left_out(module: TrainModule, optimizers: Sequence[torch.optim.Optimizer]) -> str:
    """Return what to say of parameters that the loss has given gradients, and that no optimizer has."""
    trained = {id(parameter) for optimizer in optimizers for parameter in parameters_of(optimizer)}
    left = [
        name
        for name, parameter in module.named_parameters()
        if parameter.grad is not None and parameter.requires_grad and id(parameter) not in trained
    ]
    if not left:
        return ""
    return (
        f"{len(left)} parameters of {type(module).__name__} have gradients, and no optimizer trains them: "
        f"{', '.join(left[:5])}{', ...' if len(left) > 5 else ''}. Give them to an optimizer in configure_optimizers, "
        "or freeze them with requires_grad_(False), which saves their gradients."
    )


def _without_update(module: TrainModule, epoch: int, batches: int) -> str:
    """Return what to say of an epoch of so many batches in which no update was made."""
    name = type(module).__name__
    if module.automatic_optimization:
        to_do = f"If {name}.training_step computes a loss, return it: None skips the batch."
    else:
        to_do = f"With manual optimization {name}.training_step has to call step() of self.optimizers()."
    return f"epoch {epoch} has made no update of the weights in {batches} batches. {to_do}"


def _without_count(module: TrainModule, epoch: int, batches: int) -> str:
    """Return what to say of an epoch whose updates were not seen."""
    return (
        f"epoch {epoch} has changed weights in {batches} batches, but past everything that counts updates, as "
        "p.data.add_(...) does. So global_step stays what it is: max_steps never ends the fit, and what goes by steps "
        "is neither logged nor saved. Call step() of self.optimizers() in "
        f"{type(module).__name__}.training_step, or leave out .data, as in p.add_(...) under torch.no_grad()."
    )


def _without_gradient(
    module: TrainModule, epoch: int, batches: int, optimizers: Sequence[torch.optim.Optimizer]
) -> str:
    """Return what to say of an epoch whose updates found no gradient, and left all weights as they were."""
    names = ", ".join(type(optimizer).__name__ for optimizer in optimizers)
    if module.automatic_optimization:
        to_do = (
            f"The loss of {type(module).__name__}.training_step depends on none of them: give configure_optimizers the "
            "parameters that it is computed with."
        )
    else:
        to_do = "Call self.manual_backward(loss) ahead of step(), with a loss that is computed with these parameters."
    return f"epoch {epoch} has changed no weight in {batches} batches: no parameter of {names} has a gradient. {to_do}"


def _norms(optimizers: Sequence[torch.optim.Optimizer]) -> list[Tensor]:
    """Return one number for each tensor of weights, on its device: bits of them all differ where weights do."""
    kinds: dict[tuple[torch.dtype, torch.device], list[Tensor]] = {}
    sharded: list[Tensor] = []
    for optimizer in optimizers:
        for parameter in parameters_of(optimizer):
            if is_sharded(parameter):
                # Of all parts, so that all ranks tell the same.
                sharded.append(whole(torch.linalg.vector_norm(parameter.detach())))
            elif not is_lazy(parameter) and parameter.layout is torch.strided and parameter.is_floating_point():
                # Halves are too coarse to show a small change.
                wide = torch.promote_types(parameter.dtype, torch.float32)
                kinds.setdefault((wide, parameter.device), []).append(parameter.detach())
    return [norm for (dtype, _), tensors in kinds.items() for norm in torch._foreach_norm(tensors, 2, dtype)] + sharded
