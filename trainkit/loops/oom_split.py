"""A step for batches that may be too large: where memory runs out, it is made again with parts of the batch."""

from __future__ import annotations

import gc
from collections.abc import Sequence
from functools import partial
from typing import Any, NamedTuple

import torch

from trainkit.batch.split import Splitter, count_samples, gather, split
from trainkit.errors import OutOfMemoryError
from trainkit.hooks.bound import BoundHooks
from trainkit.loops.optimize import add_gradients, close_group, detached, multiply_gradients
from trainkit.loops.run import FitRun
from trainkit.metrics.merge import Logged, merge_logs, note
from trainkit.metrics.torchmetrics import load_metric_states, metric_states, reset_metrics
from trainkit.module import TrainModule
from trainkit.module.attached import log_to
from trainkit.module.modes import Snapshot
from trainkit.module.optimizers import parameters_of
from trainkit.output import warn
from trainkit.seed import rng_state, set_rng_state
from trainkit.types import Batch, StepOutput

WHO = Splitter("accumulate_grad_batches='auto'", "give a number of batches")

MESSAGES = ("CUBLAS_STATUS_ALLOC_FAILED", "DefaultCPUAllocator: ", "MPS backend out of memory")
"""What errors say that are no ``torch.OutOfMemoryError``, but tell of one."""


class Computed(NamedTuple):
    """The results of forward and backward, part by part of a batch.

    Attributes:
        outputs: What ``training_step`` returned.
        samples: How many samples the part has.
        logs: What it logged.
    """

    outputs: list[Any]
    samples: list[int]
    logs: list[list[Logged]]


def step_in_parts(run: FitRun, hooks: BoundHooks, batch: Batch, batch_idx: int, is_last: bool) -> StepOutput:
    """Do what `optimize.step` does; where memory runs out, with parts of half the size, until they fit.

    What a failed try has changed is put back, and what it has logged is dropped, so that the outcome depends only on
    the size of the parts, which is remembered, and saved. The loss of a part is weighed by its samples: the gradients
    are those of the whole batch. Ranks try again together, and exchange gradients when all have theirs.
    """
    run.counted_update = False
    before = Before(run.module)
    while True:
        computed, failed_at = try_step(run, hooks, batch, batch_idx)
        if run.strategy.is_distributed:
            # One rank that splits alone would exchange its gradients with those of another try.
            failed_at = max(run.strategy.all_gather_object(failed_at))
        if not failed_at:
            break
        del computed  # of this rank, where another one failed
        before.restore()
        run.accumulation.close()
        make_smaller(run, failed_at)
    assert computed is not None, "nothing failed"
    log(run, computed)
    if run.strategy.skips_step(all(output is None for output in computed.outputs)):
        return {}
    run.accumulation.count_batch()
    make_up_for_skipped_parts(run, computed)
    close_group(run, hooks)
    outputs: StepOutput = computed.outputs[0]
    if len(computed.outputs) > 1:
        outputs = gather(computed.outputs, computed.samples, run.strategy.device, weighs=run.module.weighs_losses)
    return outputs


def try_step(run: FitRun, hooks: BoundHooks, batch: Batch, batch_idx: int) -> tuple[Computed | None, int]:
    """Do forward and backward for all parts of ``batch``; return what they came to, or how many samples did not fit."""
    size, parts, samples = run.progress.micro_batch_size, [batch], [1]
    if size:
        parts, samples = split(batch, size, WHO, run.metrics.known_samples)
    # `samples` of a whole batch is a share of 1, whatever its size: what cannot be split need not be counted.
    try:
        return compute(run, hooks, parts, samples, batch_idx), 0
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
    # Outside of `except`: the error holds on to everything that was computed.
    free_memory(run)
    whole = count_samples(batch, WHO, run.metrics.known_samples)
    return None, min(size or whole, whole)


def compute(run: FitRun, hooks: BoundHooks, parts: Sequence[Batch], samples: list[int], batch_idx: int) -> Computed:
    """Do forward and backward for each part, and leave in ``.grad`` the gradients of all."""
    computed = Computed([], samples, [])
    try:
        for part, count in zip(parts, samples, strict=True):
            # Logged for the parts, it would count each as a batch, and stay where the try fails: it is kept aside.
            logged: list[Logged] = []
            log_to(run.module, partial(note, logged))
            with run.precision.autocast():
                output = hooks.around_training_step(run.training_step, part, batch_idx)
            if output is not None:
                add_gradients(run, hooks, output, batch_idx, share=count / sum(samples))
                output = detached(output)
            computed.outputs.append(output)
            computed.logs.append(logged)
    finally:
        log_to(run.module, run.metrics.log)
    return computed


def make_up_for_skipped_parts(run: FitRun, computed: Computed) -> None:
    """Let the other parts weigh more where ``training_step`` returned None for some."""
    counted = sum(count for output, count in zip(computed.outputs, computed.samples, strict=True) if output)
    whole = sum(computed.samples)
    is_weighted = run.accumulation.divisor == 0  # by its own weights, of which what was skipped has none
    if counted < whole and not is_weighted:
        multiply_gradients(run.optimizer, whole / counted)


def log(run: FitRun, computed: Computed) -> None:
    """Log what was logged for the parts, once for the batch."""
    calls = computed.logs[0]
    if len(computed.logs) > 1:
        calls = merge_logs(computed.logs, computed.samples, run.strategy.device, share_objects=True)
    for name, value, options in calls:
        run.metrics.log(name, value, *options)


def make_smaller(run: FitRun, failed_at: int) -> None:
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
        warn(
            f"out of memory with {failed_at} samples: this batch and those that follow are computed {size} samples at "
            "a time. The gradients stay those of whole batches."
        )


class Before:
    """What a module was before a step, as far as a failed try may have changed it: to begin anew."""

    def __init__(self, module: TrainModule) -> None:
        self._module = module
        self._rng = rng_state()
        self._metrics = metric_states(module)
        self._snapshot = Snapshot(module, buffers=True)

    def restore(self) -> None:
        """Put it back: modes, buffers, torchmetrics objects, and the random numbers that are drawn next."""
        set_rng_state(self._rng)
        reset_metrics(self._module)
        load_metric_states(self._module, self._metrics)
        self._snapshot.restore()


def is_out_of_memory(error: BaseException) -> bool:
    """Return whether ``error`` tells that there is not enough memory, of whatever device."""
    return isinstance(error, torch.OutOfMemoryError | MemoryError) or any(words in str(error) for words in MESSAGES)


def free_memory(run: FitRun) -> None:
    """Let go of what a failed try has left."""
    for parameter in parameters_of(run.optimizer):
        parameter.grad = None
    gc.collect()  # frames and errors may hold each other
    if run.strategy.device.type == "cuda":
        torch.cuda.empty_cache()
