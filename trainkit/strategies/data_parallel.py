"""One process on several devices, as ``nn.DataParallel`` does it: replicas of the module share each batch.

A step is four functions: `scatter` the batch, `replicate` the module, `run_parallel` (the replicas, in threads), and
`gather` their outputs. None of them needs CUDA, so tests compare two replicas on the CPU with one device.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import nullcontext
from functools import partial
from typing import Any

import torch
from torch import nn

from trainkit.batch.split import Splitter, count_samples, gather, split
from trainkit.batch.transfer import move
from trainkit.checks import named_device, takes_numpy
from trainkit.errors import ConfigError, note_on
from trainkit.metrics.merge import Logged, merge_logs, note
from trainkit.module import TrainModule
from trainkit.module.attached import log_to, sink_of
from trainkit.output import warn
from trainkit.strategies.base import Strategy
from trainkit.types import Batch

WHO = Splitter("strategy 'dp'", "use one device, or strategy='ddp'")


class DataParallel(Strategy):
    """Training batches are split along dimension 0 over replicas, which are made anew for every batch.

    Losses are averaged by sample and logged values are gathered, so gradients and metrics are those of one device. What
    a step sets on ``self`` is lost, and BatchNorm sees a share of the batch. Evaluation runs on the first device.
    Without CUDA there is nothing to gain, and one device is used; with it, ``ddp`` is faster.

    Args:
        devices: Such as ``["cuda:0", "cuda:1"]``. By default those that the Trainer's arguments name.
    """

    name = "dp"
    uses_all_devices = True
    drives_all_devices = True
    compiles = "nothing"  # a replica would call the compiled layers of its original, on that one's device

    @takes_numpy
    def __init__(self, devices: Sequence[torch.device | str] | None = None) -> None:
        self._threads: ThreadPoolExecutor | None = None
        if devices is not None:
            if isinstance(devices, str | bytes) or not isinstance(devices, Sequence):
                raise ConfigError(f"DataParallel: devices={devices!r} must be a list of devices, or None.")
            named = [named_device("DataParallel", device, "devices") for device in devices]
            self._use([device for device in named if device is not None])

    def assign(self, devices: Sequence[torch.device]) -> None:
        if devices and devices[0].type != "cuda":
            warn(f"strategy 'dp' splits batches over CUDA devices, and there are none: training on {devices[0]} alone.")
            devices = devices[:1]
        self._use(devices)

    def wrap(self, module: TrainModule) -> None:
        module.to(self.device)

    def training_step(self, module: TrainModule) -> Callable[..., Any]:
        if len(self.devices) == 1:
            return module.training_step
        if not module.automatic_optimization:
            raise ConfigError(
                f"strategy 'dp' runs training_step in {len(self.devices)} replicas, and {type(module).__name__} has "
                "automatic_optimization = False:\neach would step the optimizers. Use one device, or strategy='ddp'."
            )
        if self._threads is None:
            self._threads = ThreadPoolExecutor(len(self.devices) - 1, thread_name_prefix="replica")
        return partial(self._split_step, module, self._threads)

    def teardown(self) -> None:
        if self._threads is not None:
            self._threads.shutdown()
            self._threads = None

    def _use(self, devices: Sequence[torch.device]) -> None:
        if not devices:
            raise ConfigError("strategy 'dp' needs at least one device, such as devices=['cuda:0', 'cuda:1'].")
        self.devices = tuple(devices)
        self.device = devices[0]

    def _split_step(self, module: TrainModule, threads: ThreadPoolExecutor, batch: Batch, *others: Any) -> Any:
        """Run ``module.training_step`` in replicas; ``others`` are its arguments besides the batch."""
        parts, samples = scatter(batch, self.devices)
        logs: list[list[Logged]] = [[] for _ in parts]
        steps = []
        for index, (part, log) in enumerate(zip(parts, logs, strict=True)):
            replica = replicate(module, self.devices[index], keeps_buffers=index == 0)
            # Each replica logs to a list of its own; `merge_logs` makes one of them, with values weighted by samples.
            log_to(replica, partial(note, log))
            steps.append(partial(replica.training_step, part, *others))
        outputs = run_parallel(steps, self.devices, threads)
        sink = sink_of(module)
        if sink is not None:
            for name, value, options in merge_logs(logs, samples, self.device):
                sink(name, value, *options)
        return gather(outputs, samples, self.device)


def scatter(batch: Batch, devices: Sequence[torch.device]) -> tuple[list[Batch], list[int]]:
    """Split ``batch`` along dimension 0 into at most as many parts as there are devices.

    What is split, and what goes whole to each part, `split` tells.

    Returns:
        The parts, each on its device, and their sizes in samples. A small batch has fewer parts than there are devices.

    Raises:
        DataError: If there is nothing to split, or an object that cannot be split.
    """
    # Rounded up, as torch's own scatter does; the last part may be smaller.
    size = max(1, -(-count_samples(batch, WHO) // len(devices)))
    parts, sizes = split(batch, size, WHO)
    return [move(part, device) for part, device in zip(parts, devices, strict=False)], sizes


def replicate(module: TrainModule, device: torch.device, *, keeps_buffers: bool) -> TrainModule:
    """Return a copy of ``module`` on ``device`` whose gradients flow back to the parameters of ``module``.

    Args:
        module: The original.
        device: Where the copy computes. On the original's device they share parameters.
        keeps_buffers: Whether the copy shares the original's buffers. One replica has to; the others get copies, so
            that running statistics are updated once per batch.
    """
    # torch's own shallow copy, and not `copy.copy`: some modules, such as RNNs, override it. Its result has no
    # parameters, submodules or buffers of its own; they follow below.
    copies: dict[nn.Module, Any] = {
        part: part._replicate_for_data_parallel()  # type: ignore[no-untyped-call]  # torch leaves it untyped
        for part in module.modules()
    }
    # `to` is differentiable, so backward goes through it to the original. One entry for each parameter: tied stay tied.
    weights = {weight: weight.to(device) for weight in module.parameters()}
    for part, twin in copies.items():
        # A submodule may be None, as after ``self.head = None``.
        twin._modules = {name: child and copies[child] for name, child in part._modules.items()}
        for name, weight in part._parameters.items():
            moved = None if weight is None else weights[weight]
            # By `setattr` for forward, which some modules intercept (RNNs keep a list of their weights), and in
            # `_parameters` for steps that walk over `self.parameters()`.
            setattr(twin, name, moved)
            twin._parameters[name] = moved
        for name, buffer in part._buffers.items():
            twin._buffers[name] = buffer if buffer is None or keeps_buffers else buffer.to(device, copy=True)
    replica: TrainModule = copies[module]
    return replica


def run_parallel(
    steps: Sequence[Callable[[], Any]], devices: Sequence[torch.device], threads: ThreadPoolExecutor
) -> list[Any]:
    """Run each step on its device, the first in this thread, and return their results in order.

    If steps raise, the error of the first device that failed is raised, when all have ended.
    """
    # torch keeps these settings per thread; the others get those of this one.
    kind, grad_enabled = devices[0].type, torch.is_grad_enabled()
    autocast_enabled, autocast_dtype = torch.is_autocast_enabled(kind), torch.get_autocast_dtype(kind)

    def run(step: Callable[[], Any], device: torch.device) -> Any:
        on_device = torch.cuda.device(device) if device.type == "cuda" else nullcontext()
        autocast = torch.autocast(kind, autocast_dtype, enabled=autocast_enabled)
        try:
            with on_device, torch.set_grad_enabled(grad_enabled), autocast:
                return step()
        except Exception as error:
            note_on(error, f"in a replica of strategy 'dp' on {device}")
            raise

    others = [threads.submit(run, step, device) for step, device in zip(steps[1:], devices[1:], strict=False)]
    try:
        outputs = [run(steps[0], devices[0])]
    finally:
        # No replica may still write gradients or buffers when the caller deals with an error.
        wait(others)
    return outputs + [other.result() for other in others]
