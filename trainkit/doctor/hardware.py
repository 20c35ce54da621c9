"""What a run can compute on, and what torch can do there."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import torch

from trainkit.data.wait_meter import usable_cores
from trainkit.doctor.report import Fact, Finding, Found
from trainkit.trainer.explain.page import size_text


def processor() -> Iterator[Found]:
    """Look at the cores, the threads on them, and the libraries that compute there."""
    cores, threads = usable_cores(), torch.get_num_threads()
    of = f" of {os.cpu_count()}" if os.cpu_count() != cores else ""
    has_mkl = torch.backends.mkl.is_available()  # type: ignore[no-untyped-call]  # torch has not annotated it
    has_onednn = torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]  # nor this
    libraries = {"MKL": has_mkl, "oneDNN": has_onednn}
    found = [name for name, is_there in libraries.items() if is_there]
    yield Fact("cpu", f"{cores}{of} cores, {threads} threads; {' and '.join(found) or 'neither MKL nor oneDNN'}")
    if threads > cores:
        yield Finding(
            "slow",
            f"torch computes with {threads} threads on {cores} cores",
            "they wait for each other",
            f"OMP_NUM_THREADS={cores}",
        )


def accelerators() -> Iterator[Found]:
    """Look at torch's build, the driver, and each device."""
    built = f"built for CUDA {torch.version.cuda}" if torch.version.cuda else "built without CUDA"
    driver = driver_version()
    yield Fact("torch", f"{torch.__version__}, {built}" + (f"; driver {driver}" if driver else ""))
    number = torch.cuda.device_count() if torch.cuda.is_available() else 0
    for index in range(number):
        yield from _cuda_device(index)
    if torch.backends.mps.is_available():
        yield Fact("mps", "available")
    if not number and driver:
        todo = "install a build of torch for CUDA" if not torch.version.cuda else "update the driver, or install torch"
        suffix = " for an older CUDA" if torch.version.cuda else ""
        yield Finding(
            "slow",  # a run on the CPU works, and GPUs may be hidden on purpose, by CUDA_VISIBLE_DEVICES
            f"there is the driver {driver}, and torch finds no GPU",
            f"it is {built}",
            f"{todo}{suffix}",
        )


def _cuda_device(index: int) -> Iterator[Found]:
    known = torch.cuda.get_device_properties(index)
    capability = f"{known.major}.{known.minor}"
    bf16 = ", bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else ""
    try:
        free, total = torch.cuda.mem_get_info(index)
    except RuntimeError as error:  # a context takes memory too
        yield Finding(
            "broken",
            f"cuda:{index} cannot be used",
            str(error).splitlines()[0],
            "nvidia-smi tells which process has its memory",
        )
        return
    yield Fact(
        "cuda",
        f"cuda:{index} {known.name}, {size_text(free)} of {size_text(total)} free, capability {capability}{bf16}",
    )
    if free < total // 10:
        yield Finding(
            "slow",
            f"cuda:{index} has {size_text(free)} free",
            "another process has its memory",
            "nvidia-smi tells which",
        )


def ranks() -> Iterator[Found]:
    """Look at what several processes can talk through."""
    if not torch.distributed.is_available():
        yield Fact("ranks", "this build of torch has no torch.distributed: one process only")
        return
    there = {"gloo": torch.distributed.is_gloo_available(), "nccl": torch.distributed.is_nccl_available()}
    yield Fact("ranks", ", ".join(f"{name}{'' if has else ' missing'}" for name, has in there.items()))
    if torch.cuda.is_available() and torch.cuda.device_count() > 1 and not there["nccl"]:
        yield Finding(
            "slow", "torch has no NCCL", "GPUs exchange gradients over the CPU", "install a build of torch with NCCL"
        )


def compilers() -> Iterator[Found]:
    """Look at what ``Trainer(compile=...)`` needs."""
    given = os.environ.get("CXX")
    found = next((path for name in (given, "g++", "clang++", "c++") if name and (path := shutil.which(name))), None)
    has_triton = find_spec("triton") is not None
    parts = [found or "no C++ compiler: compile on the CPU fails"]
    if torch.version.cuda:
        parts.append("triton" if has_triton else "no triton: compile on CUDA fails")
    yield Fact("compile", ", ".join(parts))


def driver_version() -> str:
    """Return the version of NVIDIA's driver, as the kernel tells it; empty where there is none, or nobody tells."""
    try:
        first = Path("/proc/driver/nvidia/version").read_text(encoding="utf-8", errors="replace").partition("\n")[0]
    except OSError:
        return ""
    return next((word for word in first.split() if word[:1].isdigit() and "." in word), "")
