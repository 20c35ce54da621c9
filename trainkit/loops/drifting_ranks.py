"""Whether the ranks have the same weights and update them alike: told along with what they exchange anyway."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import count
from typing import Any, NamedTuple
from zlib import crc32

import torch
from torch import Tensor
from torch import distributed as dist

from trainkit.errors import ModuleError
from trainkit.hooks.bound import BoundHooks
from trainkit.loops.run import FitRun, Run, Step
from trainkit.module import TrainModule
from trainkit.module.shards import is_sharded, own_part
from trainkit.reflection import overrides
from trainkit.strategies.base import Strategy
from trainkit.types import Batch, StepOutput

EVERY = 1000
"""After how many training batches ranks look at each other, besides the ends of epochs and of evaluations."""

_INTEGERS = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}

_MANUAL = (
    "With manual optimization the ranks exchange gradients in self.manual_backward() and, where that is not called, in "
    "step() of self.optimizers(); an update of {module} went past it.\n"
    "    to do        call both, step() with a closure if it updates in several steps (SAM);\n"
    "                 or call self.trainer.strategy.sync_gradients(self) after each backward of another kind"
)

_AUTOMATIC = (
    "Something changes the weights of {module}, or how they are updated, on some ranks only: a hook, a callback or an "
    "optimizer that acts by the rank, by the batch, or by a metric of this rank alone.\n"
    "    to do        decide alike on all ranks: by self.trainer.strategy.any_rank(...) or broadcast(...), or by a "
    "metric that is logged with sync_dist=True"
)


def exchanges_at_steps(strategy: Strategy) -> bool:
    """Whether ranks hold copies of the weights that stay equal because ``strategy`` averages gradients at updates."""
    return strategy.is_distributed and overrides(strategy, "sync_gradients", Strategy)


class Digest(NamedTuple):
    """One number for all that has to be equal on all ranks: it is another one where a weight or a rate is.

    Attributes:
        number: The number.
        parts: What it stands for, by name; stays on its rank as long as the numbers are equal.
    """

    number: int
    parts: dict[str, Any]


def digest(run: Run) -> Digest | None:
    """Return the digest of the weights of ``run``, and of what its optimizers were told; None where none is needed."""
    if not exchanges_at_steps(run.strategy):
        return None
    parts = dict(_weights(run.module)) | dict(
        _settings(getattr(run, "optimizers", ()))
    )  # there are none outside of a fit
    return Digest(crc32(repr(parts).encode()), parts)


def require_same(run: Run, own: Digest, numbers: Sequence[int | None], when: str) -> None:
    """Raise `ModuleError` on every rank if ``numbers``, those of the digests of all ranks, differ.

    Args:
        run: The run.
        own: The digest of this rank.
        numbers: Those of all ranks.
        when: When they were taken, for the error.
    """
    if len(set(numbers)) == 1:
        return
    differing = _differences(run.strategy.all_gather_object(own.parts))
    if not differing:
        return  # they differed when the numbers were taken, and do not any more
    way = _AUTOMATIC if run.module.automatic_optimization else _MANUAL
    raise ModuleError(
        f"the ranks have drifted apart: {when} they have different {differing}. "
        + way.format(module=type(run.module).__name__)
    )


def compare_ranks(run: Run, when: str) -> None:
    """Compare the ranks in an exchange of their own.

    Raises:
        ModuleError: On every rank, if weights or optimizers differ between ranks.
    """
    if (own := digest(run)) is not None:
        require_same(run, own, run.strategy.all_gather_object(own.number), when)


def compared_early(step: Step) -> Step:
    """Return ``step`` with a comparison of the ranks after the batches 1, 2, 4, 8, ... of a fit.

    The first update may have been made with a learning rate of 0, and other optimizers may come later, so once is not
    enough; and after each batch would be as slow as the exchange itself.
    """
    batches = count(1)

    def compared_step(run: FitRun, hooks: BoundHooks, batch: Batch, batch_idx: int, is_last: bool) -> StepOutput:
        outputs = step(run, hooks, batch, batch_idx, is_last)
        number = next(batches)
        if number & (number - 1) == 0:
            compare_ranks(run, f"after training batch {batch_idx}")
        return outputs

    return compared_step


def compared_now_and_then(step: Step) -> Step:
    """Return ``step`` with a look at the ranks at every `EVERY`-th batch of a run, for which none of them waits.

    An epoch may be endless, with no validation in it. Each rank tells its digest, and reads those of the others as many
    batches later, when they are long there.
    """

    def compared_step(run: FitRun, hooks: BoundHooks, batch: Batch, batch_idx: int, is_last: bool) -> StepOutput:
        outputs = step(run, hooks, batch, batch_idx, is_last)
        done = run.progress.total_batches + 1  # it is counted behind the step
        if done % EVERY == 0 and (own := digest(run)) is not None:
            # Where ranks differ in what they read, as one lags behind, the error comes with the next exchange.
            earlier = run.strategy.ranks.notes(str(own.number))
            if earlier is not None and len(set(earlier)) > 1:
                require_same(run, own, [own.number, None], f"{EVERY} batches before training batch {batch_idx}")
        return outputs

    return compared_step


def _differences(ranks: Sequence[dict[str, Any]]) -> str:
    """Return the first weight and the first setting that differ, and on which ranks they are others than on rank 0."""
    names = list({name: None for rank in ranks for name in rank})
    found = [name for name in names if any(rank.get(name) != ranks[0].get(name) for rank in ranks)]
    weights = [name for name in found if name.startswith("weights ")]
    told = []
    if weights:
        others = f", and in {len(weights) - 1} more" if len(weights) > 1 else ""
        told.append(f"weights in {weights[0].removeprefix('weights ')!r} (on {_others(ranks, weights[0])}){others}")
    for name in [name for name in found if name not in weights][:1]:
        values = ", ".join(f"{rank.get(name, 'missing')} on rank {number}" for number, rank in enumerate(ranks[:8]))
        told.append(f"values of {name} ({values})")
    return " and ".join(told)


def _others(ranks: Sequence[dict[str, Any]], name: str) -> str:
    numbers = [str(number) for number, rank in enumerate(ranks) if rank.get(name) != ranks[0].get(name)]
    return f"rank {', '.join(numbers)} others than on rank 0"


def _weights(module: TrainModule) -> Iterator[tuple[str, int]]:
    """Give a number for each parameter that another value of it changes."""
    # Also at the end of an evaluation under inference mode, in which a part of a sharded tensor cannot be taken.
    with torch.inference_mode(False), torch.no_grad():
        named = [(name, _sum_of_copy(each)) for name, each in module.named_parameters() if _is_comparable(each)]
    # Together, so that the device is waited for once. Moved ahead of that, since a module may be on several.
    sums = torch.stack([sum_.cpu() for _, sum_ in named]).tolist() if named else []
    return ((f"weights {name}", sum_) for (name, _), sum_ in zip(named, sums, strict=True))


def _settings(optimizers: Sequence[torch.optim.Optimizer]) -> Iterator[tuple[str, Any]]:
    """Give the learning rates, and whatever else the optimizers were told, such as a momentum that is scheduled."""
    for index, optimizer in enumerate(optimizers):
        which = f"{type(optimizer).__name__}" + (f" {index}" if len(optimizers) > 1 else "")
        for number, group in enumerate(optimizer.param_groups):
            for key, value in group.items():
                plain = value.tolist() if isinstance(value, Tensor) else value
                if isinstance(plain, int | float | tuple):
                    yield f"{key!r} of {which}, group {number}", plain


def _is_comparable(parameter: Tensor) -> bool:
    # One that is still to be given a shape, or is sparse, or quantized, is not compared.
    is_plain = parameter.layout is torch.strided and not parameter.is_quantized
    # With what is sharded, and not copied too, there is nothing to compare.
    return (
        is_plain
        and not (is_sharded(parameter) and not _copied_along(parameter))
        and not torch.nn.parameter.is_lazy(parameter)
        and parameter.element_size() in _INTEGERS
    )


def _copied_along(parameter: Any) -> list[int]:
    """Return the dimensions of the mesh of a sharded parameter along which ranks have copies."""
    sizes = enumerate(zip(parameter.placements, parameter.device_mesh.shape, strict=True))
    return [dim for dim, (placement, size) in sizes if placement.is_replicate() and size > 1]


def _sum_of_copy(parameter: Any) -> Tensor:
    """Return `_sum_of_bits` of a parameter; of one that is sharded that of all parts that belong to one copy."""
    total = _sum_of_bits(own_part(parameter.detach()))
    if is_sharded(parameter):
        mesh: Any = parameter.device_mesh
        for dim in {*range(mesh.ndim)}.difference(_copied_along(parameter)):
            dist.all_reduce(total, group=mesh.get_group(dim))
    return total


def _sum_of_bits(parameter: Tensor) -> Tensor:
    """Return a number that another value of ``parameter`` changes, whatever the order in which a device adds up."""
    values = parameter.detach().resolve_conj().resolve_neg()
    values = (torch.view_as_real(values) if values.is_complex() else values).contiguous()
    return values.view(_INTEGERS[values.element_size()]).sum(dtype=torch.int64)
