"""A step for batches that may be too large: where memory runs out, it is made again with parts of the batch."""

from __future__ import annotations

import gc
import warnings
from collections.abc import Sequence
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor

from trainkit.batch.split import Splitter, count_samples, gather, split
from trainkit.errors import ModuleError, OutOfMemoryError
from trainkit.hooks.dispatch import BoundHooks
from trainkit.loops.optimize import close_group, detached, read_loss
from trainkit.loops.run import Run
from trainkit.metrics.merge import Logged, merge_logs, note
from trainkit.metrics.torchmetrics import load_metric_states, metric_states, reset_metrics
from trainkit.module import TrainModule
from trainkit.seed import rng_state, set_rng_state
from trainkit.types import Batch, StepOutput

WHO = Splitter("accumulate_grad_batches='auto'", "give a number of batches")

MESSAGES = ("CUBLAS_STATUS_ALLOC_FAILED", "DefaultCPUAllocator: ", "MPS backend out of memory")
"""What errors say that are no ``torch.OutOfMemoryError``, but tell of one."""


class Computed(NamedTuple):
    """What forward and backward have come to, for each part of a batch.

    Attributes:
        outputs: What ``training_step`` returned.
        samples: How many samples the part has.
        logs: What it logged.
    """

    outputs: list[Any]
    samples: list[int]
    logs: list[list[Logged]]


def micro_step(run: Run, hooks: BoundHooks, batch: Batch, batch_idx: int, is_last: bool) -> StepOutput:
    """Do what `step` does; if memory runs out in forward or backward, with parts of half the size, until they fit.

    What a failed try has changed is put back, and what it has logged is dropped, so that the outcome depends only on
    the size of the parts, which is remembered, and saved. The loss of a part is weighed by its samples: the gradients
    are those of the whole batch. Ranks try again together, and exchange gradients when all have theirs.
    """
    run.stepped = False
    before = Before(run.module)
    while True:
        computed, failed_at = try_step(run, hooks, batch, batch_idx)
        if run.strategy.is_distributed:
            failed_at = max(run.strategy.all_gather_object(failed_at))
        if not failed_at:
            break
        del computed  # of this rank, where another one failed
        before.restore()
        make_smaller(run, failed_at)
    assert computed is not None, "nothing failed"
    log(run, computed)
    if run.strategy.skips_step(all(output is None for output in computed.outputs)):
        return {}
    open_group(run, batch_idx, computed)
    close_group(run, hooks)
    outputs: StepOutput = computed.outputs[0]
    if len(computed.outputs) > 1:
        outputs = gather(computed.outputs, computed.samples, run.strategy.device)
    return outputs


def try_step(run: Run, hooks: BoundHooks, batch: Batch, batch_idx: int) -> tuple[Computed | None, int]:
    """Do forward and backward for all parts of ``batch``; return what they came to, or how many samples did not fit."""
    size, parts, samples = run.progress.micro_batch_size, [batch], [1]
    if size:
        parts, samples = split(batch, size, WHO)
    try:
        return compute(run, hooks, parts, samples, batch_idx), 0
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
    # Outside of `except`: the error holds on to everything that was computed.
    free_memory(run)
    whole = count_samples(batch, WHO)
    return None, min(size or whole, whole)


def compute(run: Run, hooks: BoundHooks, parts: Sequence[Batch], samples: list[int], batch_idx: int) -> Computed:
    """Do forward and backward for each part, and leave in ``.grad`` the gradients of all."""
    computed = Computed([], samples, [])
    attributes = vars(run.module)
    try:
        for part, count in zip(parts, samples, strict=True):
            logged: list[Logged] = []
            attributes["_log"] = partial(note, logged)
            with run.precision.autocast():
                output = hooks.around_training_step(run.training_step, part, batch_idx)
            if output is not None:
                is_first = all(other is None for other in computed.outputs)
                learn(run, hooks, output, count / sum(samples), batch_idx if is_first else None)
                output = detached(output)
            computed.outputs.append(output)
            computed.logs.append(logged)
    finally:
        attributes["_log"] = run.metrics.log
    return computed


def learn(run: Run, hooks: BoundHooks, output: Any, share: float, opens_with: int | None) -> None:
    """Add the gradients of what ``training_step`` returned for a part to those of its batch.

    Args:
        run: The run.
        hooks: Its hooks.
        output: A loss, or a dict that holds it.
        share: Which share of the samples the part has.
        opens_with: The index of the batch, if these are its first gradients.
    """
    loss, weight = read_loss(output)
    if opens_with is not None:
        hooks.on_before_zero_grad(run.optimizer)
        run.zero_grad(opens_with)
    if weight is None and share < 1:
        loss = loss * share
    hooks.on_before_backward(loss)
    hooks.around_backward(run.backward, loss)
    hooks.on_after_backward()


def open_group(run: Run, batch_idx: int, computed: Computed) -> None:
    """Make of the parts one group that can be closed, as if it had been one batch."""
    kept = [(output, count) for output, count in zip(computed.outputs, computed.samples, strict=True) if output]
    weights = [output["weight"] for output, _ in kept if output.get("weight") is not None]
    if weights and len(weights) < len(kept):
        raise ModuleError(
            "training_step returned a 'weight' for some parts of a batch and none for others, so there is no telling "
            "what each is worth. Return it always or never."
        )
    run.open_group(batch_idx, weighted=bool(weights))
    run.progress.group_batches = 1
    run.group_weight = sum(weights)
    counted, whole = sum(count for _, count in kept), sum(computed.samples)
    if not weights and counted < whole:
        # What was skipped has no share, so that of the others is larger.
        gradients = [p.grad for g in run.optimizer.param_groups for p in g["params"] if p.grad is not None]
        torch._foreach_mul_(gradients, whole / counted)


def log(run: Run, computed: Computed) -> None:
    """Log what was logged for the parts, once for the batch."""
    calls = computed.logs[0]
    if len(computed.logs) > 1:
        calls = merge_logs(computed.logs, computed.samples, run.strategy.device, share_objects=True)
    for name, value, options in calls:
        run.metrics.log(name, value, *options)


def make_smaller(run: Run, failed_at: int) -> None:
    """Halve the parts of this batch and of all that follow.

    Raises:
        OutOfMemoryError: If a part is a single sample already.
    """
    if failed_at == 1:
        raise OutOfMemoryError(
            f"{type(run.module).__name__}.training_step ran out of memory with a single sample, of which "
            "accumulate_grad_batches='auto' can make nothing smaller.\n"
            "    to do        precision='bf16-mixed', torch.utils.checkpoint in forward, smaller samples or module"
        )
    run.progress.micro_batch_size = size = -(-failed_at // 2)
    if run.strategy.is_global_zero:
        warnings.warn(
            f"out of memory with {failed_at} samples: this batch and those that follow are computed {size} samples at "
            "a time. The gradients stay those of whole batches.",
            stacklevel=2,
        )


class Before:
    """What a module was before a step, as far as a failed try may have changed it: to begin anew."""

    def __init__(self, module: TrainModule) -> None:
        self._module = module
        self._rng = rng_state()
        self._metrics = metric_states(module)
        self._buffers: list[tuple[dict[str, Any], str, Tensor, Tensor]] = [
            (part._buffers, name, buffer, buffer.detach().clone())
            for part in module.modules()
            for name, buffer in part._buffers.items()
            if buffer is not None
        ]

    def restore(self) -> None:
        """Put it back: buffers, torchmetrics objects, and the random numbers that are drawn next."""
        set_rng_state(self._rng)
        reset_metrics(self._module)
        load_metric_states(self._module, self._metrics)
        with torch.no_grad():
            for buffers, name, buffer, value in self._buffers:
                buffers[name] = buffer
                buffer.copy_(value)


def is_out_of_memory(error: BaseException) -> bool:
    """Return whether ``error`` tells that there is not enough memory, of whatever device."""
    return isinstance(error, torch.OutOfMemoryError | MemoryError) or any(words in str(error) for words in MESSAGES)


def free_memory(run: Run) -> None:
    """Let go of what a failed try has left."""
    for group in run.optimizer.param_groups:
        for parameter in group["params"]:
            parameter.grad = None
    gc.collect()  # frames and errors may hold each other
    if run.strategy.device.type == "cuda":
        torch.cuda.empty_cache()
