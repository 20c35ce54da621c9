"""What slows a run: one function for each check of what was seen of it, in one table."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch.utils.data import DataLoader

from trainkit.data.wait_meter import WORTH_A_WARNING, advise, usable_cores
from trainkit.doctor.places import existing, file_system_of, is_network
from trainkit.doctor.report import Fact, Finding, Found
from trainkit.doctor.speed import Seen
from trainkit.interval import Interval
from trainkit.profilers.torch_trace import TorchProfiler
from trainkit.trainer.default_plugins import OWN_NAMES
from trainkit.trainer.explain.page import size_text

TINY_STEP_S = 1e-3
"""Of a step that is shorter than this, most is Python that launches it."""

SMALL_BATCH = 8
"""A batch with fewer samples is small, if its step is short as well."""


def speed(seen: Seen) -> Iterator[Found]:
    """Tell how long loader and step take, and which of them is longer."""
    if not seen.steps:
        why = (
            "limit_train_batches=0"
            if not seen.trainer.arguments.data.limit_train_batches
            else "it has no batch to give"
        )
        yield Fact("run", f"there is nothing to train: {why}")
        return
    size = f"a batch of {seen.batch_size}" if seen.batch_size else "a batch"
    if seen.load_s is None or seen.first_s is None:
        yield Fact("loader", "not timed: what it gives, it gives once")
    else:
        rate = f", {seen.batch_size / seen.load_s:,.0f} samples/s" if seen.batch_size and seen.load_s else ""
        yield Fact("loader", f"{_ms(seen.load_s)} for {size}{rate}; the first one after {_ms(seen.first_s)}")
    if seen.step_s is None:
        return
    yield Fact("step", f"{_ms(seen.step_s)}, plugins included")
    if seen.load_s is not None:
        longer = "the loader" if seen.load_s > seen.step_s else "the step"
        waited = f"it is waited for {seen.waited:.0%} of the time"
        told = f": {waited}" if longer == "the loader" else f", though the loader is not short: {waited}"
        yield Fact("bound by", f"{longer}{told if _waits(seen) else ''}")


def loading(seen: Seen) -> Iterator[Found]:
    """Training waits for the loader."""
    if not _waits(seen) or _is_faster_alone(seen) or seen.load_s is None or seen.step_s is None:
        return
    wait_s = seen.load_s - seen.step_s if getattr(seen.loader, "num_workers", 0) else seen.load_s
    advice = "; ".join(advise(seen.loader, wait_s, pins=seen.on_gpu))
    if not advice and _is_short(seen):  # both are, and `short_steps` tells what to do
        return
    yield Finding(
        "slow",
        f"a batch takes {_ms(seen.load_s)} to load and {_ms(seen.step_s)} to train on",
        f"training waits {seen.waited:.0%} of its time",
        advice or _for_short_steps(seen),
    )


def short_steps(seen: Seen) -> Iterator[Found]:
    """A step is over before it is worth launching."""
    if _is_short(seen):
        yield Finding(
            "slow",
            f"a step takes {_ms(seen.step_s or 0.0)}",
            "most of that is Python that launches it",
            _for_short_steps(seen),
        )


def small_batches(seen: Seen) -> Iterator[Found]:
    """A batch has few samples, or the GPU room for more."""
    size, used, total = seen.batch_size, seen.used_bytes, seen.total_bytes
    if _is_short(seen):  # for which a larger batch is advised already
        return
    if size is not None and size < SMALL_BATCH and seen.step_s is not None and seen.step_s < 10 * TINY_STEP_S:
        why = f"{_ms(seen.step_s)} for a step are mostly the same for more of them"
        yield Finding("slow", f"a batch has {size} samples", why, "a larger batch_size, if training bears it")
    elif total and used < total // 4:
        what = f"{size_text(used)} of {size_text(total)} are used"
        yield Finding("slow", what, "the GPU has room for more in a step", "a larger batch_size, if training bears it")


def plugins(seen: Seen) -> Iterator[Found]:
    """A plugin of the user takes long at each batch. Those of the core are part of the step."""
    for row in seen.plugins:
        each_s = row.seconds / seen.steps
        if seen.step_s and each_s > max(seen.step_s / 10, 1e-4) and row.plugin not in OWN_NAMES:
            yield Finding(
                "slow",
                f"{row.plugin} takes {_ms(each_s)} in {row.hook}",
                f"that is {min(1.0, each_s / seen.step_s):.0%} of each step",
                f"let it act at every n-th batch, or leave it out: --no-plugin {row.plugin}",
            )


def pinned_memory(seen: Seen) -> Iterator[Found]:
    """Memory is pinned for no GPU, or workers pin none for one."""
    loader = seen.loader
    if not isinstance(loader, DataLoader):
        return
    if loader.pin_memory and not seen.on_gpu:
        yield Finding("slow", "pin_memory=True", "it runs on no CUDA device, to which to copy", "pin_memory=False")
    if seen.on_gpu and loader.num_workers and not loader.pin_memory:
        yield Finding("slow", "pin_memory=False", "batches are pinned in the training process", "pin_memory=True")


def workers(seen: Seen) -> Iterator[Found]:
    """Workers cost more than they save, are more than there are cores, or are started anew by each epoch."""
    loader, cores = seen.loader, usable_cores()
    if not isinstance(loader, DataLoader) or not loader.num_workers:
        return
    if _is_faster_alone(seen):
        yield Finding(
            "slow",
            f"num_workers={loader.num_workers}: {_ms(seen.load_s or 0.0)} for a batch",
            f"without workers it takes {_ms(seen.alone_s or 0.0)}",
            "num_workers=0",
        )
        return
    if loader.num_workers > cores:
        yield Finding(
            "slow",
            f"num_workers={loader.num_workers} on {cores} cores",
            "workers wait for each other, and training for them",
            f"num_workers={cores}",
        )
    epoch_s = seen.batches * max(seen.load_s or 0, seen.step_s or 0)
    if not loader.persistent_workers and seen.first_s and seen.first_s > epoch_s / 20:
        yield Finding(
            "slow",
            "persistent_workers=False",
            f"each epoch, which takes about {epoch_s:.3g} s, starts workers for {_ms(seen.first_s)}",
            "persistent_workers=True",
        )


def dtypes(seen: Seen) -> Iterator[Found]:
    """It computes with more bits than it needs to."""
    if any(each.dtype == torch.float64 for each in seen.module.parameters()):
        yield Finding(
            "slow", "weights are float64", "most GPUs have little for it, and a CPU half the speed", "precision=32-true"
        )
    is_float32 = any(each.dtype == torch.float32 for each in seen.module.parameters())
    full = torch.get_float32_matmul_precision() == "highest" and str(seen.trainer.precision) == "32-true"
    if seen.on_gpu and is_float32 and full and torch.cuda.get_device_capability()[0] >= 8:
        yield Finding(
            "slow",
            "matrices are multiplied in full float32",
            "tensor cores are not used",
            "precision=bf16-mixed, or torch.set_float32_matmul_precision('high')",
        )


def checking(seen: Seen) -> Iterator[Found]:
    """Something is on that is for finding mistakes."""
    given = seen.trainer.arguments.optimization
    if given.detect_anomaly:
        yield Finding("slow", "detect_anomaly=true", "each operation is looked at", "leave it out when it has found it")
    if given.deterministic:
        why = "kernels that repeat exactly are slower ones"
        yield Finding("slow", f"deterministic={given.deterministic}", why, "leave it out where nothing depends on it")
    if isinstance(seen.trainer.profiler, TorchProfiler):
        yield Finding(
            "slow", "profiler=torch", "the steps that it records take longer", "leave it out when it has told"
        )


def logging(seen: Seen) -> Iterator[Found]:
    """Metrics are read from the device at every step."""
    every, logs = seen.trainer.arguments.output.log_every_n_steps, not seen.trainer.arguments.output.barebones
    if logs and every == 1 and seen.step_s is not None and seen.step_s < 10 * TINY_STEP_S:
        why = "each row waits for the device"
        yield Finding("slow", "log_every_n_steps=1", why, "log_every_n_steps=50, the default")


def checkpoints(seen: Seen) -> Iterator[Found]:
    """A checkpoint is saved at every step."""
    for each in seen.trainer.checkpoint_callbacks:
        if each.every == Interval(1, "steps") or each.every == Interval(1, "batches"):
            why = "training waits while each is written"
            yield Finding("slow", "a checkpoint is saved at every step", why, "every: 1000 steps, or async_save: true")


def data_folder(seen: Seen) -> Iterator[Found]:
    """The data is on another machine."""
    root = getattr(getattr(seen.loader, "dataset", None), "root", None)
    if isinstance(root, str) and is_network(kind := file_system_of(existing(root))):
        yield Finding("slow", f"the data in {root} is on {kind}", "each sample comes over the network", "copy it here")


CHECKS: tuple[Callable[[Seen], Iterator[Found]], ...] = (
    speed,
    loading,
    short_steps,
    small_batches,
    plugins,
    pinned_memory,
    workers,
    dtypes,
    checking,
    logging,
    checkpoints,
    data_folder,
)
"""In the order of the page."""


def _waits(seen: Seen) -> bool:
    return seen.waited > WORTH_A_WARNING


def _is_faster_alone(seen: Seen) -> bool:
    """Whether a batch is loaded and trained on in less time than workers need to load one."""
    if seen.alone_s is None or seen.load_s is None or seen.step_s is None:
        return False
    return seen.alone_s + seen.step_s < max(seen.load_s, seen.step_s)


def _is_short(seen: Seen) -> bool:
    compiles = seen.trainer.arguments.optimization.compile
    return seen.step_s is not None and seen.step_s < TINY_STEP_S and not compiles


def _for_short_steps(seen: Seen) -> str:
    return f"{'trainer.compile=step, or ' if seen.compiles_step else ''}a larger batch_size"


def _ms(seconds: float) -> str:
    return f"{seconds:.3g} s" if seconds >= 1 else f"{seconds * 1e3:.3g} ms"
