"""One process on several devices, as ``nn.DataParallel`` does it: replicas of the module share each batch.

This file alone knows how: `scatter` the batch, `replicate` the module, run the replicas in threads, `gather` what they
return. Nothing in it needs CUDA, so that two replicas on the CPU can be compared with one device.
"""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import nullcontext
from functools import partial
from numbers import Real
from typing import Any

import torch
from torch import Tensor, nn

from trainkit.data.nested import map_leaves, map_tensors
from trainkit.errors import ConfigError, DataError, MetricError
from trainkit.metrics.options import resolve
from trainkit.module import TrainModule
from trainkit.strategies.base import Strategy
from trainkit.types import Batch, Phase

Logged = tuple[str, Any, list[Any]]
"""One call of ``log``: name, value, and the other arguments in the order in which `TrainModule.log` passes them on."""
_BATCH_SIZE = 7  # where that is among them; the rest are the fields of LogOptions
_REDUCTIONS: dict[str, Callable[..., Tensor]] = {"sum": torch.sum, "min": torch.amin, "max": torch.amax}


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
    compiles = "nothing"  # a replica would call what was compiled of its original

    def __init__(self, devices: Sequence[torch.device | str] | None = None) -> None:
        self._threads: ThreadPoolExecutor | None = None
        if devices is not None:
            self._use([torch.device(device) for device in devices])

    def assign(self, devices: Sequence[torch.device]) -> None:
        if devices and devices[0].type != "cuda":
            warnings.warn(
                f"strategy 'dp' splits batches over CUDA devices, and there are none: training on {devices[0]} alone.",
                stacklevel=4,  # where the Trainer is made
            )
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
        """Stand in for ``module.training_step``; ``others`` are what it takes besides the batch."""
        parts, samples = scatter(batch, self.devices)
        logs: list[list[Logged]] = [[] for _ in parts]
        steps = []
        for index, (part, log) in enumerate(zip(parts, logs, strict=True)):
            replica = replicate(module, self.devices[index], keeps_buffers=index == 0)
            replica._log = partial(_note, log)
            steps.append(partial(replica.training_step, part, *others))
        outputs = run_parallel(steps, self.devices, threads)
        if module._log is not None:
            for name, value, options in merge_logs(logs, samples, self.device):
                module._log(name, value, *options)
        return gather(outputs, samples, self.device)


def scatter(batch: Batch, devices: Sequence[torch.device]) -> tuple[list[Batch], list[int]]:
    """Split ``batch`` along dimension 0 into at most as many parts as there are devices.

    The first tensor tells how many samples there are. Every tensor with that many rows is split, and so is every list
    of that length that holds no tensors (such as file names). What is left goes whole to each part.

    Returns:
        The parts, each on its device, and their sizes. A small batch has fewer parts than there are devices.

    Raises:
        DataError: If there is nothing to split, or an object that cannot be.
    """
    samples = next((len(tensor) for tensor in _tensors(batch) if tensor.dim()), None)
    if samples is None:
        raise DataError(
            f"strategy 'dp' cannot split a batch of type {type(batch).__name__}: it holds no tensor with a dimension 0 "
            "that counts samples. Yield tensors of shape (samples, ...), or use one device."
        )
    size = max(1, -(-samples // len(devices)))
    parts, sizes = [], []
    for device, start in zip(devices, range(0, max(1, samples), size), strict=False):
        rows = slice(start, min(start + size, samples))
        take = partial(_take, rows=rows, samples=samples, device=device)
        parts.append(map_leaves(take, batch, is_leaf=partial(_is_column, samples=samples)))
        sizes.append(rows.stop - rows.start)
    return parts, sizes


def replicate(module: TrainModule, device: torch.device, *, keeps_buffers: bool) -> TrainModule:
    """Return a copy of ``module`` on ``device`` whose gradients flow back to the parameters of ``module``.

    Args:
        module: The original.
        device: Where the copy computes. On the original's device they share parameters.
        keeps_buffers: Whether the copy writes to the original's buffers, as one replica has to. The others get copies,
            so that running statistics are updated once per batch.
    """
    # torch's own shallow copy: some modules, such as RNNs, adapt it.
    copies: dict[nn.Module, Any] = {
        part: part._replicate_for_data_parallel()  # type: ignore[no-untyped-call]  # torch leaves it untyped
        for part in module.modules()
    }
    weights = {weight: weight.to(device) for weight in module.parameters()}  # what is tied stays tied
    for part, twin in copies.items():
        twin._modules = {name: child and copies[child] for name, child in part._modules.items()}
        for name, weight in part._parameters.items():
            moved = None if weight is None else weights[weight]
            setattr(twin, name, moved)
            twin._parameters[name] = moved
        for name, buffer in part._buffers.items():
            twin._buffers[name] = buffer if buffer is None or keeps_buffers else buffer.to(device, copy=True)
    replica: TrainModule = copies[module]
    return replica


def run_parallel(
    steps: Sequence[Callable[[], Any]], devices: Sequence[torch.device], threads: ThreadPoolExecutor
) -> list[Any]:
    """Run each step on its device, the first in this thread, and return what they return. The first error is raised."""
    # What torch keeps per thread has to be in the others as it is here.
    kind, grad_enabled = devices[0].type, torch.is_grad_enabled()
    autocast_enabled, autocast_dtype = torch.is_autocast_enabled(kind), torch.get_autocast_dtype(kind)

    def run(step: Callable[[], Any], device: torch.device) -> Any:
        on_device = torch.cuda.device(device) if device.type == "cuda" else nullcontext()
        autocast = torch.autocast(kind, autocast_dtype, enabled=autocast_enabled)
        try:
            with on_device, torch.set_grad_enabled(grad_enabled), autocast:
                return step()
        except Exception as error:
            error.add_note(f"in a replica of strategy 'dp' on {device}")
            raise

    others = [threads.submit(run, step, device) for step, device in zip(steps[1:], devices[1:], strict=False)]
    try:
        outputs = [run(steps[0], devices[0])]
    finally:
        wait(others)
    return outputs + [other.result() for other in others]


def gather(outputs: Sequence[Any], samples: Sequence[int], device: torch.device) -> Any:
    """Join what ``training_step`` returned in the replicas into what one device would have returned.

    Losses are averaged by sample; with a ``"weight"`` beside them they are sums, and added. Of the other entries of a
    dict, tensors with a row per sample are concatenated, single numbers are averaged by sample, and the rest becomes a
    list with an entry per replica. Replicas that returned None are left out.
    """
    kept = [(value, count) for value, count in zip(outputs, samples, strict=True) if value is not None]
    values, counts = [value for value, _ in kept], [count for _, count in kept]
    if _are_tensors(values):
        return _mean(values, counts, device)
    if not all(isinstance(value, dict) for value in values):
        return values[0]  # no step may return this, and the loop says so
    columns = {key: [value.get(key) for value in values] for key in (values[0] if values else ())}
    joined = {key: _join(column, counts, device) for key, column in columns.items()}
    if "weight" in columns:
        joined |= {key: _sum(columns[key], device) for key in ("loss", "weight") if key in columns}
    elif _are_tensors(columns.get("loss", ())):
        joined["loss"] = _mean(columns["loss"], counts, device)
    return joined or None


def merge_logs(logs: Sequence[Sequence[Logged]], samples: Sequence[int], device: torch.device) -> list[Logged]:
    """Return the calls of ``log`` that one device would have made, given those of each replica.

    Raises:
        MetricError: If a value cannot be merged, such as a torchmetrics object.
    """
    calls: dict[tuple[str, int], list[tuple[Logged, int]]] = {}
    for log, count in zip(logs, samples, strict=True):
        times: Counter[str] = Counter()
        for logged in log:
            times[logged[0]] += 1
            calls.setdefault((logged[0], times[logged[0]]), []).append((logged, count))
    return [_merge(same, device) for same in calls.values()]


def _merge(calls: list[tuple[Logged, int]], device: torch.device) -> Logged:
    (name, value, given), _ = calls[0]
    if not all(isinstance(logged[1], Tensor | Real) for logged, _ in calls):
        raise MetricError(
            f"log({name!r}) got a {type(value).__name__} in a replica of strategy 'dp', which gathers only numbers and "
            "tensors:\neach replica would have a state of its own. Log a number, use one device, or strategy='ddp'."
        )
    values = [torch.as_tensor(logged[1], device=device).detach() for logged, _ in calls]
    options, counts = list(given), [count for _, count in calls]
    if all(logged[2][_BATCH_SIZE] is not None for logged, _ in calls):
        counts = [logged[2][_BATCH_SIZE] for logged, _ in calls]
        options[_BATCH_SIZE] = sum(counts)
    reduce_fx = resolve(name, (*given[:_BATCH_SIZE], *given[_BATCH_SIZE + 1 :]), Phase.TRAIN, in_batch=True).reduce_fx
    if reduce_fx == "mean":
        return name, _mean(values, counts, device), options
    return name, _REDUCTIONS[reduce_fx](torch.stack(values), dim=0), options


def _note(log: list[Logged], name: str, value: Any, *options: Any) -> None:
    log.append((name, value, list(options)))


def _tensors(batch: Batch) -> list[Tensor]:
    found: list[Tensor] = []

    def find(tensor: Tensor) -> Tensor:
        found.append(tensor)
        return tensor

    map_tensors(find, batch)
    return found


def _is_column(value: Any, samples: int) -> bool:
    return isinstance(value, list | tuple) and len(value) == samples and not _tensors(value)


def _take(leaf: Any, rows: slice, samples: int, device: torch.device) -> Any:
    """Return what one replica gets of a leaf of the batch."""
    if isinstance(leaf, Tensor):
        own = leaf[rows] if leaf.dim() and len(leaf) == samples else leaf
        return own.to(device, non_blocking=True)
    if _is_column(leaf, samples):
        return leaf[rows]
    raise DataError(
        f"strategy 'dp' cannot split a {type(leaf).__name__} in the batch: it does not say which rows it has.\n"
        "Put its tensors into the batch, or use one device, or strategy='ddp' under torchrun."
    )


def _join(values: Sequence[Any], counts: Sequence[int], device: torch.device) -> Any:
    if not _are_tensors(values):
        return list(values)
    if all(value.dim() and len(value) == count for value, count in zip(values, counts, strict=True)):
        return torch.cat([value.to(device) for value in values])
    return _mean(values, counts, device) if all(value.numel() == 1 for value in values) else list(values)


def _are_tensors(values: Sequence[Any]) -> bool:
    return bool(values) and all(isinstance(value, Tensor) for value in values)


def _sum(values: Sequence[Any], device: torch.device) -> Any:
    return sum(value.to(device) if isinstance(value, Tensor) else value for value in values)


def _mean(values: Sequence[Tensor], counts: Sequence[int], device: torch.device) -> Tensor:
    if len(values) == 1:
        return values[0].to(device)
    total = max(1, sum(counts))
    shares = [value.to(device) * (count / total) for value, count in zip(values, counts, strict=True)]
    return torch.stack(shares).sum(dim=0)
