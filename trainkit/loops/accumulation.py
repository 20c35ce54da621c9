"""Gradient accumulation: how many batches make one update, and what each of them weighs in it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from trainkit.errors import ModuleError, StateError
from trainkit.module.shards import dealt_like
from trainkit.output import warn
from trainkit.strategies.base import Strategy

TINY = torch.finfo(torch.float32).tiny


def batches_per_update(schedule: Mapping[int, int], epoch: int) -> int:
    """Return what holds in ``epoch``, of a ``schedule`` by the epoch from which each number holds."""
    return schedule[max(start for start in schedule if start <= epoch)]


class Place(NamedTuple):
    """Where a batch stands in its group, for a step that is compiled: each place that occurs has a graph of its own.

    Attributes:
        opens: Its gradients are the first of the group.
        closes: The weights are due for an update after it.
        divisor: What its loss is divided by; 1 without accumulation.
        rescale: What the gathered gradients are multiplied with, in a group that closes shorter than was foreseen.
    """

    opens: bool
    closes: bool
    divisor: int
    rescale: float | None


class Accumulation:
    """The accumulation group: batches whose gradients wait in ``.grad`` for one update.

    Each loss is divided when its batch comes, by the number of batches that the group is foreseen to have, so that
    nothing remains to be done when it closes. Two kinds of groups are rescaled then: one that closes shorter than was
    foreseen, and one whose losses are sums that came with weights, since the weight of all is known only at its end.

    Args:
        schedule: Batches per update, by the epoch from which each number holds; ``{0: 1}`` is no accumulation.

    Attributes:
        schedule: The same.
        size: Batches per update in the running epoch.
        is_open: Whether gradients of a group are in ``.grad``, or about to be.
        batches: Batches of the open group so far; 0 between two groups.
        divisor: What divides each loss of the open group; 0 if the losses are sums with weights.
        weight: The weights that ``training_step`` returned in the open group, added up.
        loss: The losses of the open group, added up; only where an optimizer may ask for them.
    """

    __slots__ = ("_has_warned", "_num_batches", "batches", "divisor", "is_open", "loss", "schedule", "size", "weight")

    def __init__(self, schedule: Mapping[int, int]) -> None:
        self.schedule: Mapping[int, int] = schedule
        self.size = 1
        self.is_open = False
        self.batches = 0
        self.divisor = 1
        self.weight: float | Tensor = 0.0
        self.loss: float | Tensor = 0.0
        self._num_batches: int | None = None
        self._has_warned = False

    def start_epoch(self, epoch: int, num_batches: int | None) -> None:
        """Settle what holds for ``epoch``, which has ``num_batches`` batches; None if the loader does not know."""
        self.size = batches_per_update(self.schedule, epoch)
        self._num_batches = num_batches

    def warn_if_never_full(self) -> None:
        """Warn, once, of a group of more batches than the epoch has: its end closes it."""
        if self._has_warned or not self._num_batches or self.size <= self._num_batches:
            return
        self._has_warned = True
        warn(
            f"accumulate_grad_batches={self.size} is more than the {self._num_batches} training batches of an epoch, "
            f"whose end makes the update: one for each epoch, of {self._num_batches} batches. Say {self._num_batches} "
            "if that is meant, else fewer.",
        )

    def closes(self, batch_idx: int, is_last: bool) -> bool:
        """Whether the weights are due for an update after this batch."""
        return is_last or (batch_idx + 1) % self.size == 0

    def foreseen(self, batch_idx: int) -> int:
        """How many batches the group of ``batch_idx`` is going to have; the last one of an epoch may be short."""
        if self.size == 1 or self._num_batches is None:
            return self.size
        left = self._num_batches - (batch_idx - batch_idx % self.size)
        # None are left where the loader gives more than it promised: as many as it likes may come.
        return min(self.size, left) if left > 0 else self.size

    def open(self, batch_idx: int, *, weighted: bool) -> None:
        """Begin a group with ``batch_idx``; ``weighted`` if its losses are sums that come with weights."""
        # A sum is divided by the whole weight of the group, which is known when it closes.
        self.divisor = 0 if weighted else self.foreseen(batch_idx)
        self.weight = self.loss = 0.0
        self.is_open = True

    def divide(self, loss: Tensor, weight: float | Tensor | None, share: float = 1.0) -> Tensor:
        """Return what backward starts from for a loss of the open group.

        Args:
            loss: The mean over a batch, or with a weight the sum.
            weight: What the sum is to be divided by in the end; None for a mean.
            share: Which share of the samples of its batch the loss is of.

        Raises:
            ModuleError: If some losses of the group came with a weight and others without.
        """
        if (weight is not None) is not (self.divisor == 0):
            members, whole = ("parts", "a batch") if share < 1 else ("batches", "an accumulation group")
            raise ModuleError(
                f"training_step returned a 'weight' for some {members} of {whole} and none for others, so there is no "
                f"telling what each is worth. Return it for all {members} or for none."
            )
        if weight is not None:
            # Divided when the group closes: only then the weight of all is known.
            self.weight += weight
            return loss
        if self.divisor > 1:
            loss = loss / self.divisor
        return loss * share if share < 1 else loss

    def count_batch(self) -> None:
        """Count a batch whose gradients have been added."""
        self.batches += 1

    def rewind(self, batches: int) -> None:
        """Go back to when the group had so many batches: the next one is computed again."""
        self.batches, self.is_open = batches, batches > 0

    def mean_loss(self, strategy: Strategy | None = None) -> Any:
        """Return the loss whose gradients have been gathered: the mean of the open group, over the ranks of a strategy.

        Args:
            strategy: Exchanges it; None for the loss of this rank.
        """
        weight = self.weight if self.divisor == 0 else self.batches
        if strategy is None or not strategy.is_distributed:
            return self.loss / weight
        sums = torch.stack([torch.as_tensor(each, device=strategy.device).double() for each in (self.loss, weight)])
        loss, weight = strategy.all_reduce(sums)
        return loss / weight

    def rescale(self, strategy: Strategy) -> float | Tensor | None:
        """Return what to multiply the gathered gradients with, so that every batch, or sample, weighs the same.

        None if they are right as they are, which most are.
        """
        if self.divisor == 0:
            # The strategy has averaged over ranks; what is wanted is the sum, divided by the weight of all.
            weight = torch.as_tensor(self.weight, dtype=torch.float32, device=strategy.device)
            # A group of nothing but padding weighs nothing, and its gradients are zeros already.
            return strategy.world_size / strategy.all_reduce(weight).clamp_min(TINY)
        return None if self.divisor == self.batches else self.divisor / self.batches

    def close(self) -> None:
        """End the group: its gradients were used, or are to be forgotten."""
        self.batches, self.is_open = 0, False

    def place(self, batch_idx: int, is_last: bool) -> Place:
        """Return where a batch stands that is about to be added."""
        closes = self.closes(batch_idx, is_last)
        # Everything that differs between batches of a group and that Python decides, since a graph branches on nothing.
        divisor = self.divisor if self.batches else self.foreseen(batch_idx)
        is_short = closes and divisor not in (0, self.batches + 1)
        return Place(self.batches == 0, closes, divisor, divisor / (self.batches + 1) if is_short else None)

    def weight_before(self, place: Place) -> float | Tensor | None:
        """Return the weight that is added up before the batch at ``place``; None if its group has none."""
        return None if place.opens or self.divisor else self.weight

    def advance(self, place: Place, batch_idx: int, weight: Tensor | None) -> None:
        """Count the batch at ``place``, whose gradients a compiled step has added.

        Args:
            place: Where it stood.
            batch_idx: Its index in the epoch.
            weight: The weight of the group with this batch, if its losses came with weights.
        """
        if place.closes:
            self.close()
            return
        if place.opens:
            self.open(batch_idx, weighted=weight is not None)
        self.count_batch()
        if weight is not None:
            self.weight = weight

    def state_dict(self, module: nn.Module, *, always: bool = False) -> dict[str, Any] | None:
        """Return the open group with its gradients, by the names of ``module``'s parameters.

        None between two groups, unless it is to ``always`` return the gradients that there are.
        """
        if not (self.batches or always):
            return None
        gradients = {name: p.grad for name, p in module.named_parameters() if p.grad is not None}
        return {"divisor": self.divisor, "weight": self.weight, "loss": self.loss, "gradients": gradients}

    def load_state_dict(
        self, state: dict[str, Any] | None, batches: int, module: nn.Module, rescale: float = 1.0
    ) -> None:
        """Open the group again that `state_dict` gave, of so many ``batches``.

        Args:
            state: What was given.
            batches: The size of the group so far.
            module: The module whose parameters get the gradients, in their dtypes.
            rescale: The scale of losses now, as a multiple of the one then.
        """
        if state is None:
            return
        # By the divisor its losses were divided by, whatever accumulate_grad_batches says now.
        self.rewind(batches)
        self.divisor, self.weight, self.loss = state["divisor"], state["weight"], state.get("loss", 0.0)
        parameters = dict(module.named_parameters())
        if unknown := sorted(state["gradients"].keys() - parameters.keys()):
            raise StateError(f"it has gradients of {', '.join(map(repr, unknown))}, of which there is no parameter")
        for name, gradient in state["gradients"].items():
            parameter = parameters[name]
            scaled = gradient.to(parameter.device, parameter.dtype).mul_(rescale)
            parameter.grad = dealt_like(scaled, parameter)
